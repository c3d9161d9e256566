"""The transformer's layers: against their definitions in numpy, and by what they may not depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_arrays import numbers

from octo_service.model.parameters import Leaves, Parameters, declared_shapes, stored
from octo_service.model.transformer import Transformer, attention, attention_pool, dense, layer_norm, mlp_block

DIM, HEADS = 8, 2


def drawn(forward) -> Parameters:
    shapes = declared_shapes(forward)
    leaves = {path: numbers(index, *shape) for index, (path, shape) in enumerate(sorted(shapes.items()))}
    return stored(Leaves({path: jnp.asarray(leaf) for path, leaf in leaves.items()}, {}))


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def attended(place: Parameters, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return attention of one item, a head after the other."""

    def projected(name: str, head: int) -> np.ndarray:
        kernel = (place / name).get("kernel", DIM, HEADS, DIM // HEADS)
        return x @ np.asarray(kernel)[:, head] + np.asarray((place / name).get("bias", HEADS, DIM // HEADS))[head]

    out = np.zeros_like(x) + np.asarray((place / "out").get("bias", DIM))
    for head in range(HEADS):
        query, key, value = (projected(name, head) for name in ("query", "key", "value"))
        logits = np.where(mask, query @ key.T / np.sqrt(DIM // HEADS), -1e30)
        out += softmax(logits) @ value @ np.asarray((place / "out").get("kernel", HEADS, DIM // HEADS, DIM))[head]
    return out


def test_dense_is_a_product_and_a_bias_along_the_last_axis():
    place = drawn(lambda parameters: dense(parameters, jnp.zeros((2, 3, 4)), 5))
    x = numbers(9, 2, 3, 4)
    expected = x @ np.asarray(place.get("kernel", 4, 5)) + np.asarray(place.get("bias", 5))
    np.testing.assert_allclose(dense(place, jnp.asarray(x), 5), expected, atol=1e-5)


def test_layer_norm_ignores_the_scale_and_the_mean_of_what_it_normalizes():
    place = drawn(lambda parameters: layer_norm(parameters, jnp.zeros((2, DIM))))
    x = jnp.asarray(numbers(9, 2, DIM))
    np.testing.assert_allclose(layer_norm(place, x), layer_norm(place, 4 * x + 3), atol=1e-4)


def test_layer_norm_of_equal_numbers_is_the_bias():
    place = drawn(lambda parameters: layer_norm(parameters, jnp.zeros((1, DIM))))
    np.testing.assert_allclose(layer_norm(place, jnp.full((1, DIM), 7.0))[0], place.get("bias", DIM), atol=1e-3)


def attend(x: jnp.ndarray, mask: jnp.ndarray | None):
    return lambda parameters: attention(parameters, x, x, mask, HEADS)


def test_attention_is_its_heads_one_after_the_other():
    x, mask = numbers(9, 1, 5, DIM), np.tril(np.ones((5, 5), bool))
    place = drawn(attend(jnp.asarray(x), jnp.asarray(mask)[None]))
    out = attend(jnp.asarray(x), jnp.asarray(mask)[None])(place)
    np.testing.assert_allclose(out[0], attended(place, x[0], mask), atol=1e-4)


def test_no_mask_is_a_mask_of_ones():
    x = jnp.asarray(numbers(9, 2, 4, DIM))
    place = drawn(attend(x, None))
    np.testing.assert_array_equal(attend(x, None)(place), attend(x, jnp.ones((1, 4, 4), bool))(place))


def test_what_is_masked_does_not_matter():
    x = jnp.asarray(numbers(9, 1, 4, DIM))
    mask = jnp.ones((1, 4, 4), bool).at[:, :, 2].set(False)
    place = drawn(attend(x, mask))
    queries = x[:, :2]
    one, other = (attention(place, queries, keys, mask[:, :2], HEADS) for keys in (x, x.at[:, 2].set(1e3)))
    np.testing.assert_array_equal(one, other)


def test_a_row_with_nothing_to_attend_to_is_uniform_over_all_keys():
    x = jnp.asarray(numbers(9, 1, 4, DIM))
    place = drawn(attend(x, None))
    out = attend(x, jnp.zeros((1, 4, 4), bool))(place)
    np.testing.assert_allclose(out[0], np.broadcast_to(out[0, 0], (4, DIM)), atol=1e-5)
    assert np.isfinite(out).all()


def test_attention_follows_a_permutation_of_its_tokens():
    x, order = jnp.asarray(numbers(9, 1, 5, DIM)), np.array([3, 0, 4, 1, 2])
    place = drawn(attend(x, None))
    np.testing.assert_allclose(attend(x[:, order], None)(place), attend(x, None)(place)[:, order], atol=1e-5)


def test_the_feed_forward_block_is_gelu_between_two_products():
    x = jnp.asarray(numbers(9, 1, DIM))
    place = drawn(lambda parameters: mlp_block(parameters, x, 16, 0.0))
    hidden = np.asarray(dense(place / "Dense_0", x, 16), np.float64)
    gelu = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    expected = dense(place / "Dense_1", jnp.asarray(gelu, jnp.float32), DIM)
    np.testing.assert_allclose(mlp_block(place, x, 16, 0.0), expected, atol=1e-5)


def pool(tokens: jnp.ndarray, mask: jnp.ndarray | None, num_readouts: int = 2):
    return lambda parameters: attention_pool(parameters, tokens, mask, num_readouts)


def test_pooling_gives_each_timestep_as_many_embeddings_as_there_are_probes():
    tokens = jnp.asarray(numbers(9, 2, 3, 4, DIM))
    assert pool(tokens, None)(drawn(pool(tokens, None))).shape == (2, 3, 2, DIM)


def test_pooling_does_not_depend_on_the_order_of_the_tokens():
    tokens = jnp.asarray(numbers(9, 1, 1, 4, DIM))
    place = drawn(pool(tokens, None))
    np.testing.assert_allclose(pool(tokens, None)(place), pool(tokens[:, :, ::-1], None)(place), atol=1e-4)


def test_masked_tokens_are_not_pooled():
    tokens = jnp.asarray(numbers(9, 1, 2, 4, DIM))
    mask = jnp.ones((1, 2, 4), bool).at[0, 0, 3].set(False)
    place = drawn(pool(tokens, mask))
    one, other = (np.asarray(pool(each, mask)(place)) for each in (tokens, tokens.at[0, :, 3].add(1.0)))
    np.testing.assert_array_equal(one[0, 0], other[0, 0])
    assert np.abs(one[0, 1] - other[0, 1]).max() > 1e-3


TRANSFORMER = Transformer(num_layers=2, mlp_dim=16, num_attention_heads=HEADS, dropout_rate=0, attention_dropout_rate=0)


def test_a_transformer_declares_every_layer_and_the_last_norm():
    x, mask = jnp.zeros((1, 3, DIM)), jnp.ones((1, 3, 3), bool)
    shapes = declared_shapes(lambda parameters: TRANSFORMER(parameters, x, mask))
    assert {path.split("/")[0] for path in shapes} == {"encoderblock_0", "encoderblock_1", "encoder_norm"}
    assert shapes["encoderblock_1/MlpBlock_0/Dense_0/kernel"] == (DIM, 16)
    assert shapes["encoderblock_0/MultiHeadDotProductAttention_0/query/kernel"] == (DIM, HEADS, DIM // HEADS)


def test_under_a_causal_mask_a_later_token_changes_nothing_earlier():
    x, mask = jnp.asarray(numbers(9, 1, 3, DIM)), jnp.tril(jnp.ones((1, 3, 3), bool))
    place = drawn(lambda parameters: TRANSFORMER(parameters, x, mask))
    one, other = (TRANSFORMER(place, each, mask) for each in (x, x.at[:, 2, 0].add(1.0)))
    np.testing.assert_array_equal(one[:, :2], other[:, :2])
    assert np.abs(one - other)[:, 2].max() > 1e-3


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_dropout_needs_a_key_and_a_rate(rate: float):
    x = jnp.ones((1, 4, DIM))
    place = drawn(lambda parameters: mlp_block(parameters, x, 16, rate))
    trained = stored(Leaves({path: place.leaf(path, shape) for path, shape in declared(x, rate).items()}, {}), KEY)
    np.testing.assert_array_equal(mlp_block(place, x, 16, 0.0), mlp_block(place, x, 16, rate))
    assert np.array_equal(mlp_block(trained, x, 16, rate), mlp_block(place, x, 16, rate)) == (rate == 0)


KEY = jax.random.PRNGKey(0)


def declared(x: jnp.ndarray, rate: float) -> dict[str, tuple[int, ...]]:
    return declared_shapes(lambda parameters: mlp_block(parameters, x, 16, rate))
