"""A model before any training: every kind of leaf has the moments that the reference's layers give it."""

import json
from pathlib import Path

import numpy as np
import pytest

from octo_service.model.t5 import ROOT
from octo_service.training.initialization import initial_leaves

ATTENTION = "octo_transformer/BlockTransformer_0/Transformer_0/encoderblock_0/MultiHeadDotProductAttention_0"
BLOCK = ROOT + "encoder/block/0/layer"

# Path, shape, deviation, and the largest number there can be (None where there is none).
KINDS = {
    "dense": ("octo_transformer/obs_primary_projection/kernel", (512, 384), 512**-0.5, 2.2737 * 512**-0.5),
    "residual block of the head": ("heads_action/x/MLPResNetBlock_0/Dense_0/kernel", (256, 1024), 1 / 16, 2.2737 / 16),
    "linear head": ("heads_action/mean_proj/kernel", (384, 700), 384**-0.5, 2.2737 * 384**-0.5),
    "convolution": ("octo_transformer/x/SmallStem16_0/StdConv_1/kernel", (3, 3, 32, 96), 288**-0.5, 2.2737 * 288**-0.5),
    "patches": ("octo_transformer/x/SmallStem16_0/embedding/kernel", (1, 1, 384, 512), 384**-0.5, 2.2737 * 384**-0.5),
    "attention in": (f"{ATTENTION}/query/kernel", (384, 6, 64), 384**-0.5, (6 / 768) ** 0.5),
    "attention out": (f"{ATTENTION}/out/kernel", (6, 64, 384), 384**-0.5, (6 / 768) ** 0.5),
    "mlp block": ("octo_transformer/x/MlpBlock_0/Dense_0/kernel", (384, 1536), (2 / 1920) ** 0.5, (6 / 1920) ** 0.5),
    "mlp block's bias": ("octo_transformer/x/MlpBlock_0/Dense_0/bias", (1536,), 1e-6, None),
    "probe": ("heads_action/map_head/probe", (1, 8, 4096), (2 / 4104) ** 0.5, (6 / 4104) ** 0.5),
    "positions": ("octo_transformer/obs_primary_pos_embedding", (1, 10, 64, 64), 0.02, None),
    "token learner": ("octo_transformer/x/TokenLearner_0/pos_embed", (256, 64), 0.02, None),
    "frequencies": ("heads_action/diffusion_model/time_preprocess/kernel", (4096, 1), 0.2, None),
    "score network": (
        "heads_action/diffusion_model/reverse_network/Dense_0/kernel",
        (444, 256),
        (2 / 700) ** 0.5,
        (6 / 700) ** 0.5,
    ),
    "text queries": (f"{BLOCK}/0/SelfAttention/q/kernel", (32, 64), (64 * 16) ** -0.5, None),
    "text keys": (f"{BLOCK}/0/SelfAttention/k/kernel", (32, 64), 64**-0.5, None),
    "text values": (f"{BLOCK}/0/SelfAttention/v/kernel", (32, 64), 64**-0.5, None),
    "text out": (f"{BLOCK}/0/SelfAttention/o/kernel", (64, 32), 64**-0.5, None),
    "text positions": (
        f"{BLOCK}/0/SelfAttention/relative_attention_bias/embedding",
        (32, 4),
        64**-0.5,
        None,
    ),
    "text mlp in": (f"{BLOCK}/1/DenseReluDense/wi/kernel", (32, 128), 32**-0.5, None),
    "text mlp out": (f"{BLOCK}/1/DenseReluDense/wo/kernel", (128, 32), 128**-0.5, None),
    "words": (f"{ROOT}shared/embedding", (500, 32), 1.0, None),
}
SHAPES = {path: shape for path, shape, _, _ in KINDS.values()}


@pytest.fixture(scope="module")
def leaves() -> dict[str, np.ndarray]:
    return initial_leaves(SHAPES, seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_leaf_has_the_moments_of_its_kind(leaves: dict[str, np.ndarray], kind: str):
    path, shape, deviation, bound = KINDS[kind]
    leaf = leaves[path]

    assert leaf.shape == shape
    assert leaf.dtype == np.float32
    # Four standard errors of the mean and of the deviation.
    assert abs(leaf.mean()) < 4 * deviation / leaf.size**0.5
    assert abs(leaf.std() / deviation - 1) < 4 / (2 * leaf.size) ** 0.5
    if bound is not None:
        assert 0.95 * bound < np.abs(leaf).max() < 1.0001 * bound


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("octo_transformer/obs_primary_projection/bias", 0),
        (f"{ATTENTION}/query/bias", 0),
        ("octo_transformer/x/GroupNorm_0/bias", 0),
        ("octo_transformer/x/GroupNorm_0/scale", 1),
        ("octo_transformer/x/block1/unit1/gn3/scale", 0),
        ("octo_transformer/x/FilmConditioning_0/Dense_0/kernel", 0),
    ],
)
def test_norms_and_biases_start_as_nothing_at_all(path: str, value: float):
    assert np.all(initial_leaves({path: (64,)}, seed=0)[path] == value)


def test_every_leaf_of_an_architecture_is_drawn_by_seed_and_path_alone(goldens: Path):
    tree = json.loads((goldens / "octo" / "param_tree_tiny.json").read_text())["params"]
    shapes = {path: tuple(entry["shape"]) for path, entry in tree.items()}

    leaves = initial_leaves(shapes, seed=3)

    assert {path: leaf.shape for path, leaf in leaves.items()} == shapes
    one = "octo_transformer/task_language_projection/kernel"
    alone = {one: shapes[one]}
    assert np.array_equal(initial_leaves(alone, seed=3)[one], leaves[one])
    assert not np.array_equal(initial_leaves(alone, seed=4)[one], leaves[one])
