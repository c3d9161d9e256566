"""Tokenizers: which arrays each reads, how many tokens it makes of them, and which of these are real."""

import jax.numpy as jnp
import numpy as np
import pytest

from octo_service.errors import InputError
from octo_service.model.bins import bin_thresholds, bin_tokens, bin_values
from octo_service.model.image_stem import PatchEncoder, SmallStem
from octo_service.model.parameters import Leaves, declared_shapes, stored
from octo_service.model.random_leaves import random_leaves
from octo_service.model.tokens import ImageTokenizer, LanguageTokenizer, LowdimObsTokenizer, matching, pad_mask

NOTHING = stored(Leaves({}, {}))
CAMERA = ImageTokenizer(
    encoder=PatchEncoder(patch_size=8, num_features=4),
    encoder_name="PatchEncoder",
    obs_stack_keys=("image_primary",),
    task_stack_keys=("image_primary",),
)


def an_image(seed: int, *leading: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*leading, 16, 16, 3), np.uint8)


def tokenized(tokenizer: ImageTokenizer, observation: dict, task: dict):
    def forward(parameters):
        return tokenizer(parameters, observation, task)

    leaves = random_leaves(declared_shapes(forward), seed=0)
    return forward(stored(Leaves({path: jnp.asarray(leaf) for path, leaf in leaves.items()}, {})))


def test_names_match_by_their_beginning_and_come_sorted():
    names = ["image_wrist", "image_primary", "proprio", "depth_primary"]
    assert matching(["image_.*", "depth_.*"], names) == ["depth_primary", "image_primary", "image_wrist"]
    assert matching(["primary"], names) == []


def test_a_token_is_real_where_any_of_its_arrays_is():
    arrays = {"pad_mask_dict": {"left": np.array([[True, False]]), "right": np.array([[False, False]])}}
    assert pad_mask(jnp.zeros((1, 2, 3, 4)), arrays, ["left", "right"]).tolist() == [[[True] * 3, [False] * 3]]


def test_without_a_mask_for_each_array_every_token_is_real():
    arrays = {"pad_mask_dict": {"left": np.array([[False]])}}
    assert pad_mask(jnp.zeros((1, 1, 2, 4)), arrays, ["left", "right"]).all()
    assert pad_mask(jnp.zeros((1, 1, 2, 4)), {}, ["left"]).all()


def test_an_image_becomes_a_token_a_patch():
    group = tokenized(CAMERA, {"image_primary": an_image(0, 2, 3)}, {"image_primary": an_image(1, 2)})
    assert group.tokens.shape == (2, 3, 4, 4)
    assert group.mask.shape == (2, 3, 4)


def test_a_camera_that_is_not_shown_has_no_tokens():
    assert CAMERA(NOTHING, {"image_wrist": an_image(0, 1, 1)}, {}) is None
    assert not CAMERA.is_in(["image_wrist"])


def test_a_missing_goal_is_a_black_one():
    observation = {"image_primary": an_image(0, 1, 1)}
    missing, black = (
        tokenized(CAMERA, observation, task) for task in ({}, {"image_primary": np.zeros((1, 16, 16, 3), np.uint8)})
    )
    np.testing.assert_array_equal(missing.tokens, black.tokens)


def test_a_goal_changes_the_tokens():
    observation = {"image_primary": an_image(0, 1, 1)}
    one, other = (tokenized(CAMERA, observation, {"image_primary": an_image(seed, 1)}) for seed in (1, 2))
    assert not np.array_equal(one.tokens, other.tokens)


def test_only_a_small_stem_without_film_encodes_its_goal_apart():
    stem = SmallStem(patch_size=16)
    options = {"encoder": stem, "encoder_name": "SmallStem16"}
    assert ImageTokenizer(**options).plain_stem is stem
    assert CAMERA.plain_stem is None
    assert ImageTokenizer(**options, task_film_keys=("language_instruction",)).plain_stem is None
    assert ImageTokenizer(**options, use_token_learner=True).plain_stem is None


def test_padding_of_an_instruction_is_tokens_like_any_other():
    task = {"language_instruction": np.zeros((2, 5, 4), np.float32)}
    group = LanguageTokenizer()(NOTHING, {}, task)
    assert group is not None
    assert group.tokens.shape == (2, 5, 4)
    assert group.mask.all()


def test_a_sentence_embedding_is_one_token_and_no_instruction_none():
    group = LanguageTokenizer()(NOTHING, {}, {"language_instruction": np.zeros((2, 4), np.float32)})
    assert group is not None
    assert group.tokens.shape == (2, 1, 4)
    assert LanguageTokenizer()(NOTHING, {}, {}) is None


def test_proprio_is_a_token_a_number_in_the_order_of_its_keys():
    tokenizer = LowdimObsTokenizer(obs_keys=("proprio", "gripper"))
    observation = {"gripper": np.full((1, 2, 1), 9.0), "proprio": np.arange(6.0).reshape(1, 2, 3)}
    group = tokenizer(NOTHING, observation, {})
    assert group is not None
    assert group.tokens[..., 0].tolist() == [[[0, 1, 2, 9], [3, 4, 5, 9]]]


def test_discretized_proprio_is_one_hot():
    tokenizer = LowdimObsTokenizer(obs_keys=("proprio",), discretize=True, n_bins=4)
    group = tokenizer(NOTHING, {"proprio": np.array([[[0.1, 0.9, 5.0]]])}, {})
    assert group is not None
    assert group.tokens.argmax(-1).tolist() == [[[0, 3, 3]]]
    np.testing.assert_array_equal(group.tokens.sum(-1), 1)


def test_proprio_of_another_shape_is_refused_with_the_right_one():
    tokenizer = LowdimObsTokenizer(obs_keys=("proprio",))
    with pytest.raises(InputError, match=r"'proprio' is \(1, 3\); pass \(batch, window, numbers\)"):
        tokenizer(NOTHING, {"proprio": np.zeros((1, 3))}, {})


@pytest.mark.parametrize("bin_type", ["uniform", "normal"])
def test_the_middle_of_a_bin_falls_into_it(bin_type: str):
    middles = bin_values(jnp.arange(16), bin_thresholds(16, bin_type, 0, 1))
    np.testing.assert_array_equal(bin_tokens(middles, 16, bin_type, 0, 1), np.arange(16))


def test_numbers_outside_of_uniform_bins_fall_into_the_nearest_and_outside_of_normal_ones_into_the_first():
    numbers = jnp.array([-9.0, 9.0])
    assert bin_tokens(numbers, 8, "uniform", 0, 1).tolist() == [0, 7]
    assert bin_tokens(numbers, 8, "normal", 0, 1).tolist() == [0, 0]
