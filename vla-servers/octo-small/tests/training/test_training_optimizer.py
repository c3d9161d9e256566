"""The optimizer, its learning rates, and three steps of training against those that the reference recorded."""

import dataclasses
import json
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_goldens import GOLDENS, HEAD, relative, training_case

from octo_service.errors import ModelConfigError
from octo_service.model import t5
from octo_service.model.noise import next_key
from octo_service.training.learning_rates import Cosine
from octo_service.training.optimizer import FROZEN_KEYS, Optimizer, create_optimizer
from octo_service.training.trainer import Trainer

CASE = ("tiny_1_5", "b4_w2_firstpad_pmd")
CONFIGURATIONS = [
    *((*CASE, configuration) for configuration in ("finetune_full", "full_constant", "head_only_constant", "pretrain")),
    ("mse_map_obs", "b4_w2_firstpad_pmd", "head_mlp_only_constant"),
]
# Relative to the norm of a leaf's update. The image encoder's relus stand next to zero: the reference's gradients
# differ from themselves there, and after a step so do the parameters.
UPDATE_TOLERANCE = 1e-2
ENCODER_TOLERANCE = 1e-1
# Adam divides a gradient by its own size, so that one this small beside its leaf's largest has an update of rounding.
VANISHING = 1e-2


def _tolerance(path: str) -> float:
    return ENCODER_TOLERANCE if "observation_tokenizers" in path else UPDATE_TOLERANCE


def test_three_steps_are_the_references():
    case = training_case(*CASE)
    expected = case.spec["optimizer_steps"]["full_constant"]
    optimizer, params = create_optimizer(expected["kwargs"]), case.params
    assert all(optimizer.trains(path) for path in params)
    update = jax.jit(optimizer.update)
    moments, rng = optimizer.start(_joined(params)), np.array([0, expected["seed"]], np.uint32)
    settled = {path: np.ones(leaf.size, bool) for path, leaf in params.items()}
    for step, recorded in enumerate(expected["steps"]):
        rng, own = next_key(rng)
        (loss, _), gradients = case.gradient(params, own)
        assert float(loss) == pytest.approx(recorded["loss"], rel=1e-3 if step else 1e-5)
        assert _norm(gradients) == pytest.approx(recorded["grad_norm"], rel=1e-2 if step else 1e-4)
        assert _norm(params) == pytest.approx(recorded["param_norm"], rel=1e-4)
        joined, moments = update(_joined(gradients), moments, _joined(params), step)
        updates = _parted(joined, params)
        # The norm of all updates holds those of leaves without a gradient, which are rounding.
        assert _norm(updates) == pytest.approx(recorded["update_norm"], rel=2e-2)
        for path in filter(case.has_gradient, params):
            size = np.abs(gradients[path].reshape(-1))
            settled[path] &= size > VANISHING * size.max()
            _assert_update_matches(case, "full_constant", step + 1, path, updates[path], settled[path])
        params = {path: leaf + updates[path] for path, leaf in params.items()}
    mu, nu = _parted(moments.mu, params), _parted(moments.nu, params)
    _assert_recorded(case, {"mu3": mu, "nu3": nu, "param3": params})


def _joined(leaves: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Return what decays and what does not as one vector each: two leaves compile faster than a hundred."""
    return {
        kind: jnp.asarray(np.concatenate([leaf.reshape(-1) for path, leaf in leaves.items() if _kind(path) == kind]))
        for kind in ("kernels", "others")
    }


def _parted(joined: Mapping[str, jax.Array], leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    parts = {}
    for kind, vector in joined.items():
        paths = [path for path in leaves if _kind(path) == kind]
        ends = np.cumsum([leaves[path].size for path in paths])[:-1]
        parts |= dict(zip(paths, np.split(np.asarray(vector), ends), strict=True))
    return {path: parts[path].reshape(leaf.shape) for path, leaf in leaves.items()}


def _kind(path: str) -> str:
    return "kernels" if "kernel" in path else "others"


def _norm(leaves: Mapping[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.square(leaf).sum() for leaf in leaves.values())))


def _assert_update_matches(case, configuration: str, step: int, path: str, update: np.ndarray, settled) -> None:
    recorded = case.spec["optimizer_steps"][configuration]["steps"][step - 1].get("leaf_update_norms", {})
    if path in recorded:
        assert np.linalg.norm(update) == pytest.approx(recorded[path], rel=UPDATE_TOLERANCE), (step, path)
    key = f"opt/{configuration}/update{step}/{path}"
    if key in case.recorded:
        index = case.recorded[f"index/{path}"]
        compared = settled[index]
        elements = np.asarray(update).reshape(-1)[index]
        assert relative(elements[compared], case.recorded[key][compared]) <= _tolerance(path), (step, path)


def _assert_recorded(case, computed: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    compared = 0
    for kind, leaves in computed.items():
        for path in filter(case.has_gradient, leaves):
            key = f"opt/full_constant/{kind}/{path}"
            if key in case.recorded:
                index = case.recorded[f"index/{path}"]
                elements = np.asarray(leaves[path], np.float32).reshape(-1)[index]
                assert relative(elements, case.recorded[key]) <= _tolerance(path), (kind, path)
                compared += 1
    assert compared >= 3 * 8


@pytest.mark.parametrize(("variant", "name", "configuration"), CONFIGURATIONS)
def test_learning_rates_are_the_references(variant: str, name: str, configuration: str):
    cases = json.loads((GOLDENS / "training" / variant / "cases.json").read_text())["cases"]
    expected = cases[name]["optimizer_steps"][configuration]
    schedule = create_optimizer(expected["kwargs"]).learning_rate
    found = {step: float(schedule(int(step))) for step in expected["learning_rates"]}
    assert found == pytest.approx(expected["learning_rates"], rel=1e-6, abs=1e-12)


def test_the_trainer_takes_the_references_steps_of_the_head_alone():
    case = training_case(*CASE).from_readout
    expected = case.spec["optimizer_steps"]["head_only_constant"]
    trainer = Trainer(case.octo, case.params, create_optimizer(expected["kwargs"]))
    state = trainer.start(expected["seed"])
    assert state.params.keys() == {path for path in case.params if path.startswith(HEAD)}
    for step, recorded in enumerate(expected["steps"]):
        before = jax.device_get(state.params)
        state, metrics = trainer.step(state, case.batch)
        # The reference's grad_norm is of frozen leaves too, whose gradients are not computed here.
        for name in ("loss", "update_norm", "param_norm", "learning_rate"):
            assert float(metrics[name]) == pytest.approx(recorded[name], rel=1e-3 if step else 1e-5), (step, name)
        for path, leaf in before.items():
            update = np.asarray(state.params[path]) - leaf
            _assert_update_matches(case, "head_only_constant", step + 1, path, update, np.ones(leaf.size, bool))
    assert state.step == 3


def test_each_mode_trains_what_its_name_says():
    params = training_case("mse_map_obs", "b4_w2_firstpad_pmd").model.checkpoint.params
    trained = {
        mode: {path for path in params if Optimizer(learning_rate=Cosine(), frozen_keys=keys).trains(path)}
        for mode, keys in FROZEN_KEYS.items()
    }
    assert trained["full"] == {path for path in params if not path.startswith(t5.ROOT)}
    assert trained["head_only"] == {path for path in params if path.startswith("heads_action/")}
    assert trained["head_only"] - trained["head_mlp_only"] == {
        path for path in trained["head_only"] if "MultiHead" in path or path.endswith("probe")
    }


def test_a_gradient_is_clipped_to_the_norm_of_what_is_trained():
    rate = dataclasses.replace(Cosine(), init_value=3e-4, warmup_steps=0)
    gradients = {"a/bias": jnp.full(4, 3.0), "b/bias": jnp.full(9, 1.0)}  # norm sqrt(45)
    optimizer = Optimizer(learning_rate=rate, clip_gradient=1.0)
    params = {path: jnp.zeros(leaf.shape) for path, leaf in gradients.items()}
    _, moments = jax.jit(optimizer.update)(gradients, optimizer.start(params), params, 0)
    np.testing.assert_allclose(moments.nu["a/bias"], 0.001 * 9 / 45, rtol=1e-4)
    unclipped = dataclasses.replace(optimizer, clip_gradient=None)
    _, moments = jax.jit(unclipped.update)(gradients, optimizer.start(params), params, 0)
    np.testing.assert_allclose(moments.nu["a/bias"], 0.001 * 9, rtol=1e-4)


def test_only_kernels_decay():
    params = {"layer/kernel": jnp.ones(3), "layer/bias": jnp.ones(3), "obs_pos_embedding": jnp.ones(3)}
    optimizer = Optimizer(learning_rate=Cosine(init_value=0.1, peak_value=0.1, warmup_steps=1), weight_decay=0.5)
    still = {path: jnp.zeros(3) for path in params}
    updates, _ = jax.jit(optimizer.update)(still, optimizer.start(params), params, 0)
    assert {path: float(update[0]) for path, update in updates.items()} == pytest.approx(
        {"layer/kernel": -0.05, "layer/bias": 0, "obs_pos_embedding": 0}
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learning_rate": {"name": "triangle"}}, "'triangle' is not known; available: constant, cosine, rsqrt"),
        ({"learning_rate": {"name": "cosine", "timescale": 3}}, "timescale"),
        ({"learning_rate": {"name": "constant"}, "momentum": 0.9}, "momentum"),
        ({"learning_rate": {"name": "constant"}, "grad_accumulation_steps": 4}, "grad_accumulation_steps"),
    ],
)
def test_what_is_not_known_is_named(options: dict, said: str):
    with pytest.raises(ModelConfigError, match=said):
        create_optimizer(options)
