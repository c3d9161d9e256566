"""The T5 encoder's parts: sizes off parameters, relative positions, and what masks and norms do."""

import jax.numpy as jnp
import numpy as np
import pytest
from small_arrays import numbers

from octo_service.errors import InputError, ModelConfigError
from octo_service.model import t5
from octo_service.model.parameters import Leaves, declared_shapes, stack_layers, stored
from octo_service.model.t5 import T5Sizes, attention_bias, encode, rms_norm, sizes_of
from octo_service.model.text_encoder import TextEncoder

SIZES = T5Sizes(vocabulary=11, dim=8, num_layers=2, num_heads=2, head_dim=4, mlp_dim=12)
MASK = jnp.array([[1, 1, 1, 0]], jnp.int32)
SHAPES = declared_shapes(lambda place: encode(place, jnp.zeros((1, 4, 8)), MASK, SIZES))
LEAVES = {path: numbers(index, *shape) * np.float32(0.3) for index, (path, shape) in enumerate(sorted(SHAPES.items()))}
PARAMS = {t5.ROOT + path: leaf for path, leaf in LEAVES.items()} | {t5.EMBEDDING: numbers(99, 11, 8)}


def buckets(num_tokens: int) -> np.ndarray:
    """Read the buckets off the bias of a table in which each holds its own number."""
    table = np.arange(t5.NUM_BUCKETS, dtype=np.float32)[:, None]
    place = stored(Leaves({t5.RELATIVE: jnp.asarray(table)}, {}))
    sizes = T5Sizes(vocabulary=1, dim=1, num_layers=1, num_heads=1, head_dim=1, mlp_dim=1)
    return np.asarray(attention_bias(place, jnp.ones((1, num_tokens), jnp.int32), sizes))[0, 0].astype(int)


def test_the_sizes_of_an_encoder_are_read_off_its_parameters():
    assert sizes_of({path: leaf.shape for path, leaf in PARAMS.items()}) == SIZES


def test_parameters_without_a_text_encoder_have_no_sizes():
    assert sizes_of({"octo_transformer/obs_primary_projection/kernel": (3, 4)}) is None


@pytest.mark.parametrize("name", ["encoder/block/0/layer/1/DenseReluDense/wi/kernel", f"encoder/block/0/{t5.RELATIVE}"])
def test_an_encoder_of_another_kind_is_refused_by_the_parameter_that_it_lacks(name: str):
    shapes = {path: leaf.shape for path, leaf in PARAMS.items() if path != t5.ROOT + name}
    with pytest.raises(ModelConfigError, match="the text encoder has no parameter"):
        sizes_of(shapes)


def test_near_positions_have_a_bucket_each_on_either_side():
    row = buckets(17)[8]
    np.testing.assert_array_equal(row[1:9], [7, 6, 5, 4, 3, 2, 1, 0])
    np.testing.assert_array_equal(row[9:16], np.arange(17, 24))


def test_a_bucket_depends_on_the_distance_alone():
    table = buckets(40)
    for offset in range(-39, 40):
        assert len(set(np.diagonal(table, offset))) == 1


def test_far_positions_share_buckets_that_never_decrease_and_end_at_the_last():
    row = buckets(300)[0]
    assert (np.diff(row[1:]) >= 0).all()
    assert row[-1] == t5.NUM_BUCKETS - 1
    assert buckets(300)[-1, 0] == t5.NUM_BUCKETS // 2 - 1
    assert len(set(row[row > 0])) == t5.NUM_BUCKETS // 2 - 1


def test_the_buckets_of_the_paper_at_the_edges():
    row = buckets(130)[0] - t5.NUM_BUCKETS // 2
    assert {distance: row[distance] for distance in (8, 11, 12, 16, 32, 64, 91, 128)} == {
        8: 8, 11: 8, 12: 9, 16: 10, 32: 12, 64: 14, 91: 15, 128: 15
    }  # fmt: skip


def test_each_head_has_its_own_biases():
    table = numbers(0, t5.NUM_BUCKETS, 2)
    bias = attention_bias(stored(Leaves({t5.RELATIVE: jnp.asarray(table)}, {})), jnp.ones((1, 3), jnp.int32), SIZES)
    np.testing.assert_array_equal(bias[0, :, 1, 1], table[0])
    np.testing.assert_array_equal(bias[0, :, 1, 0], table[1])
    np.testing.assert_array_equal(bias[0, :, 0, 1], table[17])


def test_a_masked_token_has_the_lowest_bias_in_every_row():
    table = jnp.zeros((t5.NUM_BUCKETS, 2))
    bias = np.asarray(attention_bias(stored(Leaves({t5.RELATIVE: table}, {})), MASK, SIZES))
    assert (bias[..., 3] == np.finfo(np.float32).min).all()
    assert (bias[..., :3] == 0).all()


def test_rms_norm_divides_by_the_root_mean_square_and_does_not_center():
    x, weight = numbers(0, 3, 8), numbers(1, 8)
    place = stored(Leaves({"weight": jnp.asarray(weight)}, {}))
    expected = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weight
    np.testing.assert_allclose(rms_norm(place, jnp.asarray(x)), expected, rtol=1e-5)


def encoded(x: np.ndarray, mask: jnp.ndarray = MASK) -> np.ndarray:
    return np.asarray(encode(stored(Leaves(LEAVES_ON_DEVICE, {})), jnp.asarray(x), mask, SIZES))


LEAVES_ON_DEVICE = {path: jnp.asarray(leaf) for path, leaf in LEAVES.items()}


def test_what_a_masked_token_is_changes_no_other():
    x = numbers(0, 1, 4, 8)
    other = np.concatenate([x[:, :3], x[:, 3:] + 5], axis=1)
    np.testing.assert_array_equal(encoded(x)[:, :3], encoded(other)[:, :3])


def test_the_order_of_tokens_matters():
    x = numbers(0, 1, 4, 8)
    assert np.abs(encoded(x)[0, 0] - encoded(x[:, [0, 2, 1, 3]])[0, 0]).max() > 1e-4


def test_stacked_blocks_give_what_single_blocks_give():
    x = numbers(0, 1, 4, 8)
    stacked = stack_layers(LEAVES_ON_DEVICE, jnp.stack)
    assert set(stacked.stacks) == {"encoder/block/{}"}
    np.testing.assert_allclose(encode(stored(stacked), jnp.asarray(x), MASK, SIZES), encoded(x), atol=1e-5)


def test_the_encoder_as_served_gives_what_encode_gives():
    ids = np.array([[3, 7, 1, 0]])
    embedded = TextEncoder(PARAMS, SIZES).embed(ids, np.asarray(MASK))
    np.testing.assert_allclose(embedded, encoded(PARAMS[t5.EMBEDDING][ids]), atol=1e-5)


@pytest.mark.parametrize("ids", [[[0, 11]], [[-1, 0]]])
def test_ids_outside_of_the_vocabulary_are_refused_with_its_size(ids: list[list[int]]):
    with pytest.raises(InputError, match="token ids must be 0 to 10"):
        TextEncoder(PARAMS, SIZES).embed(ids, [[1, 1]])


def test_the_encoder_as_served_still_has_every_parameter_but_the_table():
    params = TextEncoder(PARAMS, SIZES).params
    assert set(params) == set(PARAMS) - {t5.EMBEDDING}
    for path, leaf in params.items():
        np.testing.assert_array_equal(leaf, PARAMS[path])
