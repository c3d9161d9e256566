"""How far this model is from the recorded outputs of the reference, stage by stage."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from octo_service.model import OctoModel
from octo_service.model.attention_mask import attention_mask
from octo_service.model.heads import ActionHead, DiffusionHead
from octo_service.model.heads.diffusion import cosine_betas
from octo_service.model.parameters import stored
from octo_service.model.prediction import Noise, draw_noise
from octo_service.model.tokens import TokenGroup
from octo_service.parity.goldens import GoldenSet
from octo_service.parity.inputs import build_inputs
from octo_service.parity.measures import Comparison, largest, num_different, spread
from octo_service.parity.step_by_step import read_out_stepwise
from octo_service.preprocessing.dataset_statistics import statistics_of

# What a comparison yields: quantity, largest difference, tolerance.
Quantities = Iterator[tuple[str, float, float]]

# From the head's own input on, nothing amplifies: its compile-to-compile noise in the reference is 5e-5.
HEAD_TOLERANCE = 1e-4
# The reference's text encoder against its own compilations, relative to the largest number.
TEXT_TOLERANCE = 2e-5


def compare(golden: GoldenSet) -> Iterator[Comparison]:
    """Compare every recorded quantity of every case of a set."""
    for name, case in golden.cases.items():
        recorded = {key.split("/", 1)[1]: golden.arrays[key] for key in golden.arrays if key.startswith(name + "/")}
        for quantity, error, tolerance in _compare_case(golden, case, recorded):
            yield Comparison(golden=golden.name, case=name, quantity=quantity, max_error=error, tolerance=tolerance)


def _compare_case(golden: GoldenSet, case: Mapping[str, Any], recorded: Mapping[str, np.ndarray]) -> Quantities:
    model, head = golden.model, golden.model.octo.heads["action"]
    observations, task_arguments = build_inputs(case)
    mask = case.get("explicit_timestep_pad_mask", observations.get("timestep_pad_mask"))
    tasks = model.create_tasks(**task_arguments)
    ids = tasks["language_instruction"]
    yield from _compare_text(model, ids, recorded)
    if "attention_mask_packed" in recorded:
        computed = _attention_mask(model, model.prepare(observations, tasks, mask))
        yield "attention mask", num_different(computed, _unpacked(recorded)), 0
    readout = model.read_out(observations, tasks, mask)
    yield from _compare_readout(readout, recorded, golden.readout_tolerance)
    statistics = _statistics(model, case)
    is_normalized = "actions_unnorm" in recorded or statistics is None
    yield from _compare_head(model, readout, recorded, alone=is_normalized)

    options = {**case.get("kwargs", {}), "timestep_pad_mask": mask}
    options["sample_shape"] = tuple(options.get("sample_shape", ()))
    options["rng"] = None if case["seed"] is None else jax.random.PRNGKey(case["seed"])
    noise = _draw(head, np.shape(mask), options)
    yield from _compare_noise(head, noise, recorded)
    tolerance = golden.action_tolerance if isinstance(head, DiffusionHead) else HEAD_TOLERANCE
    if is_normalized:
        actions = model.sample_actions(observations, tasks, **options)
        yield "actions", largest(actions - recorded["actions"]), tolerance
    readout = read_out_stepwise(model, observations, tasks, mask)
    if readout is not None and "readout" in recorded:
        error = largest(readout.tokens[:, 0] - recorded["readout"][:, -1])
        yield "readout, step by step", error, golden.readout_tolerance
    if readout is not None and is_normalized:
        actions = model.predict_chunk(readout, noise, options.get("temperature", 1.0))
        yield "actions, step by step", largest(actions - recorded["actions"]), tolerance
    if statistics is not None:
        actions = model.sample_actions(observations, tasks, statistics, **options)
        yield (
            "actions, un-normalized [std]",
            largest((actions - recorded.get("actions_unnorm", recorded["actions"])) / spread(statistics)),
            tolerance,
        )


def _compare_text(model: OctoModel, ids: Mapping[str, np.ndarray], recorded: Mapping[str, np.ndarray]) -> Quantities:
    for key, every in (("t5", 1), ("t5_every3", 3)):
        if key in recorded:
            scale = float(np.abs(recorded[key]).max())
            embedding = np.asarray(model.embed_text(**ids))[..., ::every]
            yield "text embedding [max]", largest(embedding - recorded[key]) / scale, TEXT_TOLERANCE


def _compare_readout(readout: TokenGroup, recorded: Mapping[str, np.ndarray], tolerance: float) -> Quantities:
    for key, values in recorded.items():
        if key == "readout":
            yield "readout", largest(readout.tokens - values), tolerance
        elif key.endswith("_every17"):
            yield f"{key.removesuffix('_every17')} tokens", largest(readout.tokens[:, :, ::17] - values), tolerance


def _attention_mask(model: OctoModel, inputs: Any) -> np.ndarray:
    """Return who attends to whom; compiled for the masks alone, this computes no embedding."""
    octo = model.octo
    place = stored(model.leaves) / "octo_transformer"

    def mask_of(observations: Any, tasks: Any, timestep_pad_mask: Any) -> Any:
        groups = octo.token_groups(place, observations, tasks, timestep_pad_mask)
        return attention_mask(*groups, octo.use_correct_attention)

    return np.asarray(jax.jit(mask_of)(*inputs))


def _unpacked(recorded: Mapping[str, np.ndarray]) -> np.ndarray:
    shape = recorded["attention_mask_shape"]  # batch, 1, tokens, tokens
    bits = np.unpackbits(recorded["attention_mask_packed"])[: shape.prod()]
    return bits.reshape(shape)[:, 0].astype(bool)


def _compare_head(model: OctoModel, readout: TokenGroup, recorded: Mapping[str, np.ndarray], alone: bool) -> Quantities:
    head = model.octo.heads["action"]
    place = stored(model.leaves) / "heads_action"
    if isinstance(head, DiffusionHead):
        if alone:
            given = TokenGroup(jnp.asarray(recorded["readout"]), readout.mask)
            chunk = model.predict_chunk(given, (recorded["x_T"], recorded["z"]))
            yield "actions, head alone", largest(chunk - recorded["actions"]), HEAD_TOLERANCE
        if "betas" in recorded:
            yield "betas", largest(cosine_betas(head.diffusion_steps) - recorded["betas"]), 1e-6
    elif "head_output" in recorded:
        yield "head output", largest(head(place, readout) - recorded["head_output"]), HEAD_TOLERANCE
    elif "logits_last" in recorded:
        yield "logits", largest(head(place, readout)[:, -1] - recorded["logits_last"]), HEAD_TOLERANCE


def _draw(head: ActionHead, batch_and_window: tuple[int, ...], options: Mapping[str, Any]) -> Noise:
    argmax = options.get("argmax", False)
    return draw_noise(head, options["rng"], batch_and_window, options["sample_shape"], argmax)


def _compare_noise(head: ActionHead, drawn: Noise, recorded: Mapping[str, np.ndarray]) -> Quantities:
    if isinstance(head, DiffusionHead):
        different = sum(num_different(*pair) for pair in zip(drawn, (recorded["x_T"], recorded["z"]), strict=True))
        yield "noise, numbers that differ", different, 0
    elif drawn is not None and "gumbel" in recorded:
        yield "noise (gumbel)", largest(drawn.reshape(recorded["gumbel"].shape) - recorded["gumbel"]), 1e-6


def _statistics(model: OctoModel, case: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a case un-normalizes with; `first_dims` cuts the embodiment's action short."""
    if "stats" not in case:
        return None
    action = statistics_of(model.dataset_statistics, case["stats"]["dataset"])["action"]
    dims = case["stats"].get("first_dims")
    return {name: np.asarray(values)[:dims] for name, values in action.items()}
