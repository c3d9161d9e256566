"""How far this model is from the recorded outputs of the reference, stage by stage."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from octo_service.images import resize_and_crop, resize_lanczos
from octo_service.model import OctoModel
from octo_service.model.attention_mask import attention_mask
from octo_service.model.heads import ActionHead, DiffusionHead
from octo_service.model.heads.diffusion import cosine_betas
from octo_service.model.parameters import stored
from octo_service.model.prediction import draw_noise, last_timestep
from octo_service.model.tokens import TokenGroup
from octo_service.parity.goldens import TINY, GoldenSet, tiny_model
from octo_service.parity.inputs import build_inputs, image
from vla_server_base.contract import Observation
from vla_server_base.sessions import ObservationWindow, RecedingHorizon, TemporalEnsemble

# What a comparison yields: quantity, largest difference, tolerance.
Found = Iterator[tuple[str, float, float]]

# From the head's own input on, nothing amplifies: its compile-to-compile noise in the reference is 5e-5.
HEAD_TOLERANCE = 1e-4
# The reference's text encoder against its own compilations, relative to the largest number.
TEXT_TOLERANCE = 2e-5


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One recorded quantity and this model's largest absolute difference from it."""

    golden: str
    case: str
    quantity: str
    max_error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance; NaN is not."""
        return self.max_error <= self.tolerance


def compare(golden: GoldenSet) -> Iterator[Comparison]:
    """Compare every recorded quantity of every case of a set."""
    for name, case in golden.cases.items():
        recorded = {key.split("/", 1)[1]: golden.arrays[key] for key in golden.arrays if key.startswith(name + "/")}
        for quantity, error, tolerance in _compare_case(golden, case, recorded):
            yield Comparison(golden=golden.name, case=name, quantity=quantity, max_error=error, tolerance=tolerance)


def _compare_case(golden: GoldenSet, case: Mapping[str, Any], recorded: Mapping[str, np.ndarray]) -> Found:
    model, head = golden.model, golden.model.octo.heads["action"]
    observations, task_arguments = build_inputs(case)
    mask = case.get("explicit_timestep_pad_mask", observations.get("timestep_pad_mask"))
    tasks = model.create_tasks(**task_arguments)
    ids = tasks["language_instruction"]
    yield "token ids", _num_different(ids["input_ids"], recorded["input_ids"]), 0
    outputs = model.run_transformer(observations, tasks, mask)
    yield from _compare_transformer(model, ids, outputs, recorded, golden.readout_tolerance)
    yield from _compare_head(model, outputs[head.readout_key], recorded)

    options = {**case.get("kwargs", {}), "timestep_pad_mask": mask}
    options["sample_shape"] = tuple(options.get("sample_shape", ()))
    options["rng"] = None if case["seed"] is None else jax.random.PRNGKey(case["seed"])
    yield from _compare_noise(head, np.shape(mask), options, recorded)
    statistics = _statistics(model, case)
    tolerance = golden.action_tolerance if isinstance(head, DiffusionHead) else HEAD_TOLERANCE
    if "actions_unnorm" in recorded or statistics is None:
        actions = model.sample_actions(observations, tasks, **options)
        yield "actions", _largest(actions - recorded["actions"]), tolerance
    if statistics is not None:
        actions = model.sample_actions(observations, tasks, statistics, **options)
        yield (
            "actions, un-normalized [std]",
            _largest((actions - recorded.get("actions_unnorm", recorded["actions"])) / _spread(statistics)),
            tolerance,
        )


def _compare_transformer(
    model: OctoModel,
    ids: Mapping[str, np.ndarray],
    outputs: Mapping[str, TokenGroup],
    recorded: Mapping[str, np.ndarray],
    tolerance: float,
) -> Found:
    text = np.asarray(model.embed_text(**ids))
    for key, every in (("t5", 1), ("t5_every3", 3)):
        if key in recorded:
            scale = np.abs(recorded[key]).max()
            yield "text embedding [max]", _largest(text[..., ::every] - recorded[key]) / scale, TEXT_TOLERANCE
    if "attention_mask_packed" in recorded:
        bits = np.unpackbits(recorded["attention_mask_packed"])
        expected = bits[: recorded["attention_mask_shape"].prod()].reshape(recorded["attention_mask_shape"])
        yield "attention mask", _num_different(_mask_of(model, outputs), expected[:, 0].astype(bool)), 0
    for key, values in recorded.items():
        if key == "readout":
            yield "readout", _largest(outputs["readout_action"].tokens - values), tolerance
        elif key.endswith("_every17"):
            group = outputs[key.removesuffix("_every17")]
            yield (
                f"{key.removesuffix('_every17')} tokens",
                _largest(group.tokens[:, :, ::17] - values),
                tolerance,
            )


def _mask_of(model: OctoModel, outputs: Mapping[str, TokenGroup]) -> np.ndarray:
    # Outputs of a compiled function come sorted by name; in the sequence groups stand as the config has them.
    octo = model.octo
    tasks = [f"task_{name}" for name in octo.task_tokenizers]
    steps = [f"obs_{name}" for name in octo.observation_tokenizers]
    steps += [f"obs_{name}" for name in tasks] + [f"readout_{name}" for name in octo.readouts]
    prefix = {name: outputs[name] for name in tasks if name in outputs}
    timestep = {name: outputs[name] for name in steps if name in outputs}
    return np.asarray(attention_mask(prefix, timestep, octo.use_correct_attention))


def _compare_head(model: OctoModel, readout: TokenGroup, recorded: Mapping[str, np.ndarray]) -> Found:
    head = model.octo.heads["action"]
    place = stored(model.leaves) / "heads_action"
    if isinstance(head, DiffusionHead):
        given = TokenGroup(jnp.asarray(recorded["readout"]), readout.mask)
        chunk = model.predict_chunk(last_timestep(given), (recorded["x_T"], recorded["z"]))
        if "actions" in recorded and chunk.shape == recorded["actions"].shape:
            yield "actions, head alone", _largest(chunk - recorded["actions"]), HEAD_TOLERANCE
        if "betas" in recorded:
            yield "betas", _largest(cosine_betas(head.diffusion_steps) - recorded["betas"]), 1e-6
    elif "head_output" in recorded:
        yield "head output", _largest(head(place, readout) - recorded["head_output"]), HEAD_TOLERANCE
    elif "logits_last" in recorded:
        yield "logits", _largest(head(place, readout)[:, -1] - recorded["logits_last"]), HEAD_TOLERANCE


def _compare_noise(
    head: ActionHead,
    batch_and_window: tuple[int, ...],
    options: Mapping[str, Any],
    recorded: Mapping[str, np.ndarray],
) -> Found:
    argmax = options.get("argmax", False)
    drawn = draw_noise(head, options["rng"], batch_and_window, options["sample_shape"], argmax)
    if isinstance(head, DiffusionHead):
        different = sum(_num_different(*pair) for pair in zip(drawn, (recorded["x_T"], recorded["z"]), strict=True))
        yield "noise, numbers that differ", different, 0
    elif drawn is not None and "gumbel" in recorded:
        yield "noise (gumbel)", _largest(drawn.reshape(recorded["gumbel"].shape) - recorded["gumbel"]), 1e-6


def _statistics(model: OctoModel, case: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a case un-normalizes with; `first_dims` cuts the embodiment's action short."""
    if "stats" not in case:
        return None
    statistics = model.dataset_statistics
    dataset = case["stats"]["dataset"]
    action = statistics["action"] if dataset is None else statistics[dataset]["action"]
    dims = case["stats"].get("first_dims")
    return {name: np.asarray(values)[:dims] for name, values in action.items()}


def _spread(statistics: Mapping[str, Any]) -> np.ndarray:
    return np.where(statistics.get("mask", True), statistics["std"], 1.0)


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
            spread = 1.0 if stats is None else _spread(stats)
            episode = _Episode(model, frames, tasks, stats, arrays[f"{name}/keys"])
            found = {**episode.ensemble(), **episode.receding_horizon()}
            for quantity, values in found.items():
                error = _largest((values - arrays[f"{name}/{form}/{quantity}"]) / spread)
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
        executed = [ensemble.append(chunk) for chunk in chunks]
        return {"every_step_chunks": np.stack(chunks), "ensemble_executed": np.stack(executed)}

    def receding_horizon(self) -> dict[str, np.ndarray]:
        window, horizon = ObservationWindow(2), RecedingHorizon(4)
        chunks, executed = [], []
        for step in range(len(self.keys)):
            if horizon.needs_chunk:
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


def compare_resize(goldens: Path) -> Iterator[Comparison]:
    """Compare the lanczos resize and the wrapper's crop, in steps of 1 of 255."""
    for key, expected in np.load(goldens / "octo" / "golden_resize.npz").items():
        method, *rest = key.split("/")
        if not method.endswith("_uint8"):
            continue
        height, width = map(int, rest[0].split("x"))
        crop = method == "wrapper_uint8" and rest[1] == "primary"
        resize = resize_and_crop if crop else resize_lanczos
        found = resize(image("resize", height, width), *expected.shape[:2])
        error = _largest(found.astype(int) - expected)
        yield Comparison(golden="resize", case=" ".join(rest), quantity=method, max_error=error, tolerance=1)


def _largest(difference: Any) -> float:
    return float(np.abs(np.asarray(difference)).max())


def _num_different(found: Any, expected: Any) -> int:
    return int((np.asarray(found) != np.asarray(expected)).sum())
