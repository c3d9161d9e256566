"""Losses, gradients and draws of training against those that the reference recorded."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_goldens import GOLDENS, HEAD, NORM, SENSITIVE, TrainingCase, relative, training_case

from octo_service.model.heads.diffusion import cosine_betas
from octo_service.model.heads.discrete import DiscreteHead
from octo_service.model.noise import next_key
from octo_service.model.parameters import Leaves, stored

# One goes all the way from the pictures, which takes long to compile; all go from the recorded readout.
WHOLE = [("tiny_1_5", "b4_w2_firstpad_pmd")]
HEADS = [*WHOLE, ("aloha_l1", "b4_w1"), ("discrete", "b4_w2_firstpad")]
WITH_DROPOUT = [("aloha_l1", "b4_w1"), ("mse_map_obs", "b4_w2_firstpad_pmd")]


@pytest.mark.parametrize(("variant", "name"), WHOLE)
def test_loss_and_gradient_of_every_leaf_are_the_references(variant: str, name: str):
    case = training_case(variant, name)
    (loss, metrics), gradients = case.gradient(case.params, case.rng)
    _assert_loss_matches(case, loss, metrics)
    assert case.spec["leaves"].keys() == gradients.keys()
    total = np.sqrt(sum(np.square(leaf).sum() for leaf in gradients.values()))
    assert total == pytest.approx(case.spec["result"]["grad_global_norm"], rel=1e-4)
    _assert_gradients_match(case, gradients)


@pytest.mark.parametrize(("variant", "name"), HEADS)
def test_from_the_readout_on_loss_and_gradient_are_the_references(variant: str, name: str):
    case = training_case(variant, name).from_readout
    (loss, metrics), gradients = case.gradient(case.params, case.rng)
    _assert_loss_matches(case, loss, metrics)
    # The last norm's gradient is that of the readout, by which the whole transformer is taught.
    assert {path for path in case.spec["leaves"] if path.startswith((HEAD, NORM))} == gradients.keys()
    _assert_gradients_match(case, gradients)


def _assert_loss_matches(case: TrainingCase, loss: jax.Array, metrics: Mapping[str, jax.Array]) -> None:
    assert float(loss) == pytest.approx(case.spec["result"]["loss"], rel=1e-5)
    expected = case.spec["result"]["metrics"]
    assert {key: float(value) for key, value in metrics.items()} == pytest.approx(expected, rel=1e-5)


def _assert_gradients_match(case: TrainingCase, gradients: Mapping[str, jax.Array]) -> None:
    for path in filter(case.has_gradient, gradients):
        expected, found = case.spec["leaves"][path], gradients[path].reshape(-1)
        assert np.linalg.norm(found) == pytest.approx(expected["grad_norm"], rel=1e-3), path
        tolerance = expected["grad_max_abs"] * (1e-2 if any(layer in path for layer in SENSITIVE) else 1e-3)
        elements = found[case.recorded[f"index/{path}"]]
        np.testing.assert_allclose(elements, case.recorded[f"grad/{path}"], rtol=0, atol=tolerance, err_msg=path)
        whole = case.recorded.get(f"grad_full/{path}", np.zeros(0)).reshape(-1)
        np.testing.assert_allclose(found[: whole.size], whole, rtol=0, atol=tolerance, err_msg=path)


def test_times_and_noise_are_the_references_bit_for_bit():
    case = training_case("tiny_1_5", "b4_w2_firstpad_pmd")
    for prefix, suffix, key in _keys_of_steps(case):
        time, noise = case.draws(key)
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
    assert isinstance(case.model.head, DiscreteHead)
    found = case.model.head.labels(jnp.asarray(case.batch["action"]))
    np.testing.assert_array_equal(found, case.recorded["labels"])


def test_how_much_is_left_of_an_action_is_the_references():
    recorded = np.load(GOLDENS / "training" / "tiny_1_5" / "golden.npz")
    np.testing.assert_allclose(np.cumprod(1 - cosine_betas(20)), recorded["alpha_hats"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mistake", ["one action more is real", "another key"])
def test_a_mistake_is_out_of_tolerance(mistake: str, monkeypatch: pytest.MonkeyPatch):
    case = training_case("tiny_1_5", "b4_w2_firstpad_pmd").from_readout
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
    assert relative(np.linalg.norm(gradients[path]), case.spec["leaves"][path]["grad_norm"]) > 1e-3
