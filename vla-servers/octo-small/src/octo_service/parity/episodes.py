"""Recorded episodes, replayed through the window, the ensemble and the receding horizon."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from octo_service.model import OctoModel
from octo_service.parity.goldens import TINY, tiny_model
from octo_service.parity.inputs import build_inputs
from octo_service.parity.measures import Comparison, largest, spread
from vla_server_base.contract import Observation
from vla_server_base.control_loop import ObservationWindow, RecedingHorizon, TemporalEnsemble


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
            episode = _Episode(model, frames, tasks, stats, arrays[f"{name}/keys"])
            found = {**episode.ensemble(), **episode.receding_horizon()}
            for quantity, values in found.items():
                error = largest((values - arrays[f"{name}/{form}/{quantity}"]) / unit)
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

    def ensemble(self) -> dict[str, np.ndarray]:
        window, ensemble = ObservationWindow(2), TemporalEnsemble(4, 0.0)
        chunks = [self._chunk(window, step, self.keys[step]) for step in range(len(self.keys))]
        executed = []
        for chunk in chunks:
            ensemble.put(chunk)
            executed.append(ensemble.take())
        return {"every_step_chunks": np.stack(chunks), "ensemble_executed": np.stack(executed)}

    def receding_horizon(self) -> dict[str, np.ndarray]:
        window, horizon = ObservationWindow(2), RecedingHorizon(4)
        chunks, executed = [], []
        for step in range(len(self.keys)):
            if not horizon.num_queued:
                chunks.append(self._chunk(window, step, self.keys[len(chunks)]))
                horizon.put(chunks[-1])
            else:
                window.append(self._observation(step))
            executed.append(horizon.take())
        return {"rhc_chunks": np.stack(chunks), "rhc_executed": np.stack(executed)}

    def _observation(self, step: int) -> Observation:
        return Observation(images={name: images[0, step] for name, images in self.frames.items()})

    def _chunk(self, window: ObservationWindow, step: int, key: np.ndarray) -> np.ndarray:
        seen = window.append(self._observation(step))
        stacked = {name: np.stack([o.images[name] for o in seen.observations])[None] for name in self.frames}
        actions = self.model.sample_actions(
            {**stacked, "timestep_pad_mask": seen.timestep_pad_mask[None]},
            self.tasks,
            self.statistics,
            rng=jnp.asarray(key),
        )
        return np.asarray(actions[0])
