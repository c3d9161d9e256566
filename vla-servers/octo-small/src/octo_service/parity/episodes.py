"""Recorded episodes, replayed through the window, the ensemble and the receding horizon."""

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from octo_service.inference.cache import InferenceCache
from octo_service.model import OctoModel
from octo_service.model.prediction import draw_noise
from octo_service.parity.goldens import TINY, tiny_model
from octo_service.parity.inputs import build_inputs
from octo_service.parity.measures import Comparison, largest, spread
from octo_service.preprocessing.content import CONTENT, digest
from vla_server_base.contract import Observation, Window
from vla_server_base.sessions.action_chunking import ObservationWindow, RecedingHorizon, TemporalEnsemble


def compare_closed_loop(goldens: Path) -> Iterator[Comparison]:
    """Replay the recorded episodes through the window, the ensemble and the receding horizon."""
    folder = goldens / "variants" / "closed_loop"
    arrays = np.load(folder / "golden.npz")

    model = tiny_model(goldens)
    statistics = model.dataset_statistics["bridge_dataset"]["action"]
    for name, case in json.loads((folder / "cases.json").read_text())["cases"].items():
        frames, _ = build_inputs({"observation": case["frames"], "task": {}})
        tasks = model.create_tasks(texts=case["texts"])
        for form, stats in (("normalized", None), ("unnorm", statistics)):
            unit = 1.0 if stats is None else spread(stats)
            given = (model, frames, tasks, stats, arrays[f"{name}/keys"])
            episode = _Episode(*given)
            replayed = {**episode.ensemble(), **episode.receding_horizon()}
            compared = [(quantity, quantity, values) for quantity, values in replayed.items()]
            if stats is None:
                stepwise = _StepwiseEpisode(*given).chunks()
                compared.append(("every_step_chunks, step by step", "every_step_chunks", stepwise))
            for quantity, recorded, values in compared:
                error = largest((values - arrays[f"{name}/{form}/{recorded}"]) / unit)
                yield Comparison(
                    golden="closed_loop",
                    case=f"{name}, {form}",
                    quantity=quantity,
                    max_error=error,
                    tolerance=TINY["action_tolerance"],
                )


@dataclass(frozen=True)
class _Episode:
    model: OctoModel
    frames: Mapping[str, np.ndarray]
    tasks: Mapping[str, Any]
    statistics: Mapping[str, Any] | None
    keys: np.ndarray

    def chunks(self) -> np.ndarray:
        window = ObservationWindow(2)
        return np.stack([self._chunk(window, step, self.keys[step]) for step in range(len(self.keys))])

    def ensemble(self) -> dict[str, np.ndarray]:
        ensemble, chunks = TemporalEnsemble(4, 0.0), self.chunks()
        executed = []
        for chunk in chunks:
            ensemble.put(chunk)
            executed.append(ensemble.next_action())
        return {"every_step_chunks": chunks, "ensemble_executed": np.stack(executed)}

    def receding_horizon(self) -> dict[str, np.ndarray]:
        window, horizon = ObservationWindow(2), RecedingHorizon(4)
        chunks, executed = [], []
        for step in range(len(self.keys)):
            if not horizon.num_queued:
                chunks.append(self._chunk(window, step, self.keys[len(chunks)]))
                horizon.put(chunks[-1])
            else:
                window.append(self._observation(step))
            executed.append(horizon.next_action())
        return {"rhc_chunks": np.stack(chunks), "rhc_executed": np.stack(executed)}

    def _observation(self, step: int) -> Observation:
        return Observation(images={name: images[0, step] for name, images in self.frames.items()})

    def _chunk(self, window: ObservationWindow, step: int, key: np.ndarray) -> np.ndarray:
        observations = self._stacked(window.append(self._observation(step)))
        actions = self.model.sample_actions(observations, self.tasks, self.statistics, rng=jnp.asarray(key))
        return np.asarray(actions[0])

    def _stacked(self, window_now: Window) -> dict[str, np.ndarray]:
        stacked = {name: np.stack([o.images[name] for o in window_now.observations])[None] for name in self.frames}
        return {**stacked, "timestep_pad_mask": window_now.timestep_pad_mask[None]}


class _StepwiseEpisode(_Episode):
    """The same as a server does it: every other time with a prefetched prefill."""

    @functools.cached_property
    def _inference_cache(self) -> InferenceCache:
        return InferenceCache(self.model.stepwise, lambda tokens: self.model.embed_text(**tokens), prefill_mb=64)

    def _chunk(self, window: ObservationWindow, step: int, key: np.ndarray) -> np.ndarray:
        window_now = window.append(self._observation(step))
        contents = [digest(observation.images) for observation in window_now.observations]
        observation = {**self._stacked(window_now), CONTENT: np.stack(contents)[None]}
        task = {**self.tasks, CONTENT: digest({})[None]}
        readout = self._inference_cache.read_out(observation, task)
        if step % 2:
            for _ in self._inference_cache.prefetch(observation, task):
                pass
        noise = draw_noise(self.model.head, jnp.asarray(key), window_now.timestep_pad_mask[None].shape)
        return np.asarray(self.model.predict_chunk(readout, noise)[0])
