"""The KV cache against attention over everything at once: appended block by block, it gives the same."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from octo_service.model.kv_cache import Block, KVCache, append, empty_cache, prefill, read_out
from octo_service.model.layer_weights import LAYERS, Layer, layer_weights, norm_weights
from octo_service.model.parameters import Leaves, declared_shapes, stored
from octo_service.model.random_leaves import random_leaves
from octo_service.model.transformer import Transformer

DIM, HEADS, NUM_LAYERS = 16, 2, 3
# One product here is several there, so that sums are rounded in another order.
TOLERANCE = 5e-6
TRANSFORMER = Transformer(num_layers=NUM_LAYERS, mlp_dim=32, num_attention_heads=HEADS)


@pytest.fixture(scope="module")
def params() -> dict[str, np.ndarray]:
    def forward(parameters):
        place = parameters / "octo_transformer" / "BlockTransformer_0" / "Transformer_0"
        return TRANSFORMER(place, jnp.zeros((1, 2, DIM)), jnp.ones((1, 2, 2), bool))

    return random_leaves(declared_shapes(forward), seed=0)


@pytest.fixture(scope="module")
def layers(params: dict[str, np.ndarray]) -> list[Layer]:
    return layer_weights(params, NUM_LAYERS, jnp.float32)


def a_block(seed: int, num_tokens: int, num_readouts: int = 1) -> Block:
    random = np.random.default_rng(seed)
    rows = random.standard_normal((num_tokens + num_readouts, DIM)).astype(np.float32)
    return Block(jnp.asarray(rows[:num_tokens]), jnp.asarray(rows[num_tokens:]))


def empty(dtype: Any = jnp.float32) -> KVCache:
    return empty_cache(HEADS, DIM // HEADS, dtype)


def prefilled(layers: list[Layer], blocks: list[Block]) -> list[KVCache]:
    """Take blocks through all layers, one block after the other."""
    caches = [empty() for _ in layers]
    for block in blocks:
        for index, layer in enumerate(layers[:-1]):
            block, caches[index] = prefill(layer, caches[index], block)
        caches[-1] = append(layers[-1], caches[-1], block)
    return caches


def whole(params: dict[str, np.ndarray], blocks: list[Block]) -> np.ndarray:
    """Embed all blocks at once, by the plain transformer and a mask."""
    of_block = np.repeat(np.arange(len(blocks)), [sum(map(len, block)) for block in blocks])
    is_readout = np.concatenate([np.arange(sum(map(len, block))) >= len(block.tokens) for block in blocks])
    mask = (of_block[None] <= of_block[:, None]) & (~is_readout[None] | is_readout[:, None])
    place = stored(Leaves({path: jnp.asarray(leaf) for path, leaf in params.items()}, {}))
    place = place / "octo_transformer" / "BlockTransformer_0" / "Transformer_0"
    tokens = jnp.concatenate([rows for block in blocks for rows in block])
    return np.asarray(TRANSFORMER(place, tokens[None], jnp.asarray(mask[None]))[0])


@pytest.mark.parametrize("sizes", [(4,), (3, 5), (3, 5, 1), (2, 2, 2, 2)])
def test_blocks_one_by_one_are_read_as_the_whole_sequence(params, layers, sizes: tuple[int, ...]):
    blocks = [a_block(seed, size) for seed, size in enumerate(sizes)]
    norm = norm_weights(params, f"{LAYERS}encoder_norm")
    last = tuple(range(sum(map(len, blocks[-1]))))
    found = read_out(layers, norm, prefilled(layers, blocks[:-1]), blocks[-1], last)
    np.testing.assert_allclose(found, whole(params, blocks)[-len(last) :], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("read", [(0,), (5,), (2, 5), (0, 1, 2, 3, 4, 5)], ids=str)
def test_any_tokens_of_a_block_may_be_read(params, layers, read: tuple[int, ...]):
    """Up to four are read one by one, more by one product: both ways agree."""
    blocks = [a_block(0, 4), a_block(1, 5)]
    norm = norm_weights(params, f"{LAYERS}encoder_norm")
    found = read_out(layers, norm, prefilled(layers, blocks[:1]), blocks[1], read)
    np.testing.assert_allclose(found, whole(params, blocks)[-6:][list(read)], rtol=0, atol=TOLERANCE)


def test_a_cache_grows_by_each_block_and_keeps_what_it_had(layers):
    first, second = (prefilled(layers, [a_block(seed, 4) for seed in range(count)])[0] for count in (1, 2))
    assert first.keys.shape == (HEADS, 4, DIM // HEADS)
    assert second.keys.shape == (HEADS, 8, DIM // HEADS)
    assert second.readout_keys.shape == (HEADS, 2, DIM // HEADS)
    np.testing.assert_array_equal(second.keys[:, :4], first.keys)
    np.testing.assert_array_equal(second.readout_values[:, :1], first.readout_values)


def test_every_value_ends_with_a_one(layers):
    for cache in prefilled(layers, [a_block(0, 4), a_block(1, 3)]):
        assert cache.values.shape == (HEADS, 7, DIM // HEADS + 1)
        np.testing.assert_array_equal(cache.values[..., -1], 1)
        np.testing.assert_array_equal(cache.readout_values[..., -1], 1)


def test_append_caches_what_prefill_caches(layers):
    block, cache = a_block(1, 4), prefill(layers[0], empty(), a_block(0, 3))[1]
    for one, other in zip(append(layers[0], cache, block), prefill(layers[0], cache, block)[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_tokens_do_not_attend_to_readouts(layers):
    block = a_block(0, 4)
    changed = Block(block.tokens, block.readouts + 1)
    (same, _), (other, _) = (prefill(layers[0], empty(), each) for each in (block, changed))
    np.testing.assert_array_equal(same.tokens, other.tokens)
    assert not np.array_equal(same.readouts, other.readouts)


def test_a_readout_attends_to_earlier_readouts(layers):
    block = a_block(1, 4)
    earlier = [a_block(0, 3), Block(a_block(0, 3).tokens, a_block(7, 3).readouts)]
    one, other = (prefill(layers[0], prefill(layers[0], empty(), each)[1], block)[0] for each in earlier)
    np.testing.assert_array_equal(one.tokens, other.tokens)
    assert not np.array_equal(one.readouts, other.readouts)


def test_a_block_without_readouts_or_without_tokens_is_taken_through_a_layer(layers):
    cache = prefill(layers[0], empty(), a_block(0, 3))[1]
    for num_tokens, num_readouts in ((4, 0), (0, 2)):
        block, after = prefill(layers[0], cache, a_block(1, num_tokens, num_readouts))
        assert (len(block.tokens), len(block.readouts)) == (num_tokens, num_readouts)
        assert after.keys.shape[1] == 3 + num_tokens


def test_the_cache_of_a_lower_precision_is_stored_in_it_and_comes_close(params, layers):
    blocks = [a_block(0, 4), a_block(1, 4)]
    low = layer_weights(params, NUM_LAYERS, jnp.bfloat16)
    block, cache = prefill(low[0], empty(jnp.bfloat16), blocks[0])
    assert {array.dtype.name for array in cache} == {"bfloat16"}
    assert block.tokens.dtype == jnp.float32
    expected, _ = prefill(layers[0], empty(), blocks[0])
    np.testing.assert_allclose(block.tokens, expected.tokens, atol=0.1)


def test_queries_are_scaled_for_the_logits_and_keys_are_not(params, layers):
    place = f"{LAYERS}encoderblock_0/MultiHeadDotProductAttention_0"
    query, key, _ = np.split(np.asarray(layers[0].attend[0]), 3, axis=1)
    scale = np.float32((DIM // HEADS) ** -0.5)
    np.testing.assert_array_equal(query, params[f"{place}/query/kernel"].reshape(DIM, DIM) * scale)
    np.testing.assert_array_equal(key, params[f"{place}/key/kernel"].reshape(DIM, DIM))
