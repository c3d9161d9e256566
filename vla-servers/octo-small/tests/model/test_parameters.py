"""The parameter tree: reading, declaring, stacking, dropping, and folding over layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_arrays import numbers

from octo_service.checkpoints.flax_msgpack import nested
from octo_service.model.parameters import (
    Leaves,
    Parameters,
    Part,
    declared_shapes,
    stack_layers,
    stored,
)

LAYERS = {f"x/encoderblock_{layer}/kernel": numbers(layer, 3, 3) for layer in range(12)}
KEY = jax.random.PRNGKey(0)


def through(place: Parameters, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ place.get("kernel", 3, 3))


def folded(parameters: Parameters, x: jax.Array) -> jax.Array:
    return (parameters / "x").fold("encoderblock_{}", 12, through, x)


def single(leaves: dict[str, np.ndarray]) -> Leaves:
    return Leaves({path: jnp.asarray(leaf) for path, leaf in leaves.items()}, {})


def test_a_leaf_is_read_by_the_path_that_leads_to_it():
    place = stored(Leaves({"a/b/kernel": jnp.ones(2), "a/kernel": jnp.zeros(2)}, {}))
    assert (place / "a" / "b").get("kernel", 2).tolist() == [1, 1]
    assert (place / "a").get("kernel", 2).tolist() == [0, 0]


def test_going_down_leaves_the_place_above_as_it_is():
    place = stored(Leaves({}, {}))
    assert ((place / "a").path, place.path) == ("a/", "")


def test_a_leaf_of_another_shape_is_named_with_both_shapes():
    with pytest.raises(AssertionError, match=r"a/kernel is \(2,\), the network wants \(3,\)"):
        (stored(Leaves({"a/kernel": jnp.ones(2)}, {})) / "a").get("kernel", 3)


def test_declaring_computes_nothing_and_lists_every_leaf():
    def forward(parameters: Parameters) -> jax.Array:
        return (parameters / "a").get("kernel", 10**6, 10**6) @ (parameters / "b").get("kernel", 10**6)

    assert declared_shapes(forward) == {"a/kernel": (10**6, 10**6), "b/kernel": (10**6,)}


def test_layers_are_declared_once_and_listed_each():
    assert declared_shapes(lambda parameters: folded(parameters, jnp.zeros((1, 3)))) == dict.fromkeys(LAYERS, (3, 3))


def test_a_fold_is_its_steps_in_the_order_of_their_numbers():
    x = numbers(0, 2, 3)
    expected = x
    for layer in range(12):
        expected = np.tanh(expected @ LAYERS[f"x/encoderblock_{layer}/kernel"])
    np.testing.assert_allclose(folded(stored(single(LAYERS)), jnp.asarray(x)), expected, atol=1e-5)


def test_a_loop_over_stacked_layers_gives_what_single_layers_give():
    x = jnp.asarray(numbers(0, 2, 3))
    np.testing.assert_allclose(
        folded(stored(stack_layers(LAYERS, jnp.stack)), x), folded(stored(single(LAYERS)), x), atol=1e-6
    )


@pytest.mark.parametrize("leaves", [single(LAYERS), stack_layers(LAYERS, jnp.stack)], ids=["single", "stacked"])
def test_computing_layers_again_changes_no_gradient(leaves: Leaves):
    x = jnp.asarray(numbers(0, 2, 3))

    def slope(remat: bool) -> jax.Array:
        place = Parameters(stored(leaves).leaf, leaves.stacks, remat=remat)
        return jax.grad(lambda x: folded(place, x).sum())(x)

    np.testing.assert_allclose(slope(remat=True), slope(remat=False), atol=1e-6)


def test_layers_are_stacked_by_number_and_not_by_name():
    stacks = stack_layers(LAYERS).stacks["x/encoderblock_{}"]["kernel"]
    for layer in (2, 10):
        np.testing.assert_array_equal(stacks[layer], LAYERS[f"x/encoderblock_{layer}/kernel"])


def test_what_one_layer_alone_has_is_not_stacked():
    relative = {
        "t5/block/0/relative": numbers(0, 2),
        "t5/block/0/kernel": numbers(1, 2),
        "t5/block/1/kernel": numbers(2, 2),
    }
    leaves = stack_layers(relative)
    assert set(leaves.single) == {"t5/block/0/relative"}
    assert leaves.stacks["t5/block/{}"]["kernel"].shape == (2, 2)


def test_what_does_not_repeat_stays_as_it_is():
    leaves = {"heads_action/mean_proj/kernel": jnp.asarray(numbers(0, 2))}
    assert stack_layers(leaves) == Leaves(leaves, {})


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join), unique=True, max_size=6))
def test_a_nested_tree_has_every_leaf_at_its_path(paths: list[str]):
    leaves = {path + "/kernel": index for index, path in enumerate(paths)}
    tree = nested(leaves)
    for path, leaf in leaves.items():
        branch = tree
        for module in path.split("/"):
            branch = branch[module]
        assert branch == leaf


def training(part: Part | None = None) -> Parameters:
    return Parameters(lambda path, shape: jnp.zeros(shape), rng=KEY, part=part)


def test_dropout_drops_about_its_rate_and_scales_what_is_left():
    dropped = np.asarray(training().dropout("Dropout_0", jnp.ones((100, 100)), 0.25))
    assert set(np.unique(dropped)) == {0, np.float32(1 / 0.75)}
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=0.02)


def test_modules_of_other_names_drop_other_numbers():
    x = jnp.ones((8, 8))
    one, again, other = ((training() / name).dropout("Dropout_0", x, 0.5) for name in ("a", "a", "b"))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_without_a_key_or_a_rate_nothing_is_dropped():
    x = jnp.ones((8, 8))
    assert stored(Leaves({}, {})).dropout("Dropout_0", x, 0.5) is x
    assert training().dropout("Dropout_0", x, 0.0) is x


@pytest.mark.parametrize("axis", [0, 1])
def test_a_part_of_a_batch_drops_what_the_whole_drops_there(axis: int):
    x = jnp.ones((6, 6))
    whole = training().dropout("Dropout_0", x, 0.5, axis)
    halves = jnp.split(x, 2, axis)
    parts = [
        training(Part(jnp.array(index), 2)).dropout("Dropout_0", half, 0.5, axis) for index, half in enumerate(halves)
    ]
    np.testing.assert_array_equal(jnp.concatenate(parts, axis), whole)
