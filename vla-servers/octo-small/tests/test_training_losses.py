"""Losses, gradients and draws of training against those that the reference recorded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_goldens import GOLDENS, SENSITIVE, TrainingCase, is_of_text_encoder, relative, training_case

from octo_service.model.heads.diffusion import cosine_betas
from octo_service.model.noise import next_key
from octo_service.model.parameters import Leaves, stored
from octo_service.training.losses import draw

CASES = [
    ("tiny_1_5", "b4_w2_firstpad_pmd"),
    ("tiny_1_5", "b4_w1_goal_lang_mixed"),
    ("aloha_l1", "b4_w1"),
    ("mse_map_obs", "b4_w2_firstpad_pmd"),
    ("discrete", "b4_w2_firstpad"),
]
WITH_DROPOUT = [case for case in CASES if case[0] in ("aloha_l1", "mse_map_obs")]


@pytest.mark.parametrize(("variant", "name"), CASES)
def test_the_loss_is_the_references(variant: str, name: str):
    case = training_case(variant, name)
    (loss, metrics), _ = case.result
    assert float(loss) == pytest.approx(case.spec["result"]["loss"], rel=1e-5)
    expected = case.spec["result"]["metrics"]
    assert {key: float(value) for key, value in metrics.items()} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("variant", "name"), CASES)
def test_the_gradient_of_every_leaf_is_the_references(variant: str, name: str):
    case = training_case(variant, name)
    _, gradients = case.result
    norms = {path: float(jnp.linalg.norm(leaf)) for path, leaf in gradients.items()}
    total = np.sqrt(sum(norm**2 for norm in norms.values()))
    assert total == pytest.approx(case.spec["result"]["grad_global_norm"], rel=1e-4)
    assert case.spec["leaves"].keys() == {path for path in gradients if not is_of_text_encoder(path)}
    for path in filter(case.has_gradient, gradients):
        assert norms[path] == pytest.approx(case.spec["leaves"][path]["grad_norm"], rel=1e-3), path
        _assert_elements_match(case, path, gradients[path])


def _assert_elements_match(case: TrainingCase, path: str, gradient: jax.Array, prefix: str = "") -> None:
    found = np.asarray(gradient).reshape(-1)
    scale = np.abs(found).max() if prefix else case.spec["leaves"][path]["grad_max_abs"]
    tolerance = scale * (1e-2 if any(layer in path for layer in SENSITIVE) else 1e-3)
    elements = found[case.recorded[f"index/{path}"]]
    np.testing.assert_allclose(elements, case.recorded[f"{prefix}grad/{path}"], rtol=0, atol=tolerance, err_msg=path)
    if not prefix and f"grad_full/{path}" in case.recorded:
        whole = case.recorded[f"grad_full/{path}"].reshape(-1)
        np.testing.assert_allclose(found[: whole.size], whole, rtol=0, atol=tolerance, err_msg=path)


@pytest.mark.parametrize(("variant", "name"), CASES)
def test_the_text_encoder_gets_no_gradient_at_all(variant: str, name: str):
    _, gradients = training_case(variant, name).result
    own = [leaf for path, leaf in gradients.items() if is_of_text_encoder(path)]
    assert len(own) == 19
    assert all(not np.any(leaf) for leaf in own)


def test_without_training_nothing_is_dropped():
    case = training_case("mse_map_obs", "b4_w2_firstpad_pmd")
    expected = case.spec["result"]["train_false"]
    (loss, metrics), gradients = case.gradient(case.params, case.rng, False)
    assert float(loss) == pytest.approx(expected["loss"], rel=1e-5)
    assert {key: float(value) for key, value in metrics.items()} == pytest.approx(expected["metrics"], rel=1e-5)
    for path in filter(case.has_gradient, gradients):
        norm = float(jnp.linalg.norm(gradients[path]))
        assert norm == pytest.approx(expected["leaf_grad_norms"][path], rel=1e-3), path
        _assert_elements_match(case, path, gradients[path], "train_false/")


@pytest.mark.parametrize(("variant", "name"), [case for case in CASES if case[0] == "tiny_1_5"])
def test_times_and_noise_are_the_references_bit_for_bit(variant: str, name: str):
    case = training_case(variant, name)
    for prefix, suffix, key in _keys_of_steps(case):
        time, noise = draw(case.model.head, key, case.batch["action"].shape[:2])
        np.testing.assert_array_equal(time, case.recorded[f"{prefix}time{suffix}"])
        np.testing.assert_array_equal(noise, case.recorded[f"{prefix}noise{suffix}"])


@pytest.mark.parametrize(("variant", "name"), WITH_DROPOUT)
def test_what_dropout_keeps_is_the_references_bit_for_bit(variant: str, name: str):
    case = training_case(variant, name)
    for prefix, suffix, key in _keys_of_steps(case):
        place = stored(Leaves({}, {}), jnp.asarray(key)) / "heads_action" / "map_head" / "MlpBlock_0"
        for layer in (0, 1):
            kept = case.recorded[f"{prefix}dropout_mask_{layer}{suffix}"]
            with jax.threefry_partitionable(False):
                found = place.dropout(f"Dropout_{layer}", jnp.ones(kept.shape), 0.1)
            np.testing.assert_array_equal(np.asarray(found) != 0, kept)


def _keys_of_steps(case: TrainingCase):
    """Give each recorded draw's place and key: of the case itself, and of three steps of training."""
    yield "", "", case.rng
    steps = case.spec.get("optimizer_steps")
    if steps:
        rng = np.array([0, next(iter(steps.values()))["seed"]], np.uint32)
        for step in (1, 2, 3):
            rng, own = next_key(rng)
            yield "opt/", f"/{step}", own


def test_labels_of_the_discrete_head_are_the_references():
    case = training_case("discrete", "b4_w2_firstpad")
    found = case.model.head.labels(jnp.asarray(case.batch["action"]))
    np.testing.assert_array_equal(found, case.recorded["labels"])


def test_how_much_is_left_of_an_action_is_the_references():
    recorded = np.load(GOLDENS / "training" / "tiny_1_5" / "golden.npz")
    np.testing.assert_allclose(np.cumprod(1 - cosine_betas(20)), recorded["alpha_hats"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mistake", ["one action more is real", "another key"])
def test_a_mistake_is_out_of_tolerance(mistake: str, monkeypatch: pytest.MonkeyPatch):
    case = training_case("tiny_1_5", "b4_w1_goal_lang_mixed")
    key = case.rng
    if mistake == "another key":
        key = next_key(key)[0]
    else:
        real = case.batch["action_pad_mask"].copy()
        real[1, 0, -1] = True
        monkeypatch.setitem(case.batch, "action_pad_mask", real)
    (loss, _), gradients = case.gradient(case.params, key)
    assert float(loss) != pytest.approx(case.spec["result"]["loss"], rel=1e-3)
    path = "heads_action/diffusion_model/reverse_network/Dense_1/kernel"
    assert relative(jnp.linalg.norm(gradients[path]), case.spec["leaves"][path]["grad_norm"]) > 1e-3
