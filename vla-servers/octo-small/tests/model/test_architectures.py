"""Architectures, configs, and weights at random: what is built of a config, and what is refused."""

import copy
import re

import numpy as np
import pytest

from octo_service.errors import ModelConfigError
from octo_service.model.architectures import ARCHITECTURES
from octo_service.model.description import description
from octo_service.model.image_stem import SmallStem
from octo_service.model.octo import Octo
from octo_service.model.octo_config import build_octo
from octo_service.model.random_leaves import hand_noise_through, random_leaves
from octo_service.model.random_weights import architecture_named
from octo_service.model.tokens import ImageTokenizer

TINY = ARCHITECTURES["octo-tiny"]


def changed(path: str, value: object) -> dict:
    """Return the config of an octo-tiny with one entry changed."""
    config = copy.deepcopy(TINY.config()["model"])
    *modules, name = path.split(".")
    branch = config
    for module in modules:
        branch = branch[module]
    branch[name] = value
    return config


def camera_of(octo: Octo) -> ImageTokenizer:
    tokenizer = octo.observation_tokenizers["primary"]
    assert isinstance(tokenizer, ImageTokenizer)
    return tokenizer


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_example_batch_has_all_that_its_config_reads(name: str):
    octo, examples = build_octo(ARCHITECTURES[name].config()["model"]), ARCHITECTURES[name].example_batch()
    assert octo.observation_names(examples["observation"]) == [
        f"image_{camera}" for camera in ARCHITECTURES[name].cameras
    ]
    assert "language_instruction" in octo.task_names(examples["task"])
    assert len(octo.task_names(examples["task"])) == 1 + ARCHITECTURES[name].takes_goal_images * len(
        ARCHITECTURES[name].cameras
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_heads_divide_the_embedding(name: str):
    assert ARCHITECTURES[name].dim % ARCHITECTURES[name].heads == 0


def test_an_architecture_can_be_a_static_argument():
    octo = build_octo(TINY.config()["model"])
    encoder = camera_of(octo).encoder
    assert isinstance(encoder, SmallStem)
    assert encoder.features == (32, 32, 32, 32)
    assert hash(encoder) == hash(copy.deepcopy(encoder))


def test_lists_of_json_become_tuples():
    octo = build_octo(changed("observation_tokenizers.primary.kwargs.obs_stack_keys", ["image_primary"]))
    assert camera_of(octo).obs_stack_keys == ("image_primary",)


@pytest.mark.parametrize("missing", ["heads", "transformer_kwargs", "observation_tokenizers", "task_tokenizers"])
def test_a_config_that_lacks_a_part_is_refused_by_its_name(missing: str):
    config = {name: value for name, value in TINY.config()["model"].items() if name != missing}
    with pytest.raises(ModelConfigError, match=f"config.json lacks '{missing}'"):
        build_octo(config)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("heads.action.name", "FlowHead", "FlowHead.*DiffusionActionHead"),
        ("observation_tokenizers.primary.name", "VideoTokenizer", "VideoTokenizer.*ImageTokenizer"),
        ("observation_tokenizers.primary.kwargs.encoder.name", "DINO", "DINO.*SmallStem16"),
        ("heads.action.kwargs.temperature", 2, "DiffusionActionHead.*temperature"),
        ("transformer_kwargs.rotary", True, "transformer_kwargs.*rotary"),
        ("mixture", 3, "model.*mixture"),
        ("transformer_kwargs.add_position_embedding", True, "add_position_embedding"),
    ],
)
def test_what_is_not_known_is_named(path: str, value: object, named: str):
    with pytest.raises(ModelConfigError, match=re.compile(named, re.DOTALL)):
        build_octo(changed(path, value))


@pytest.mark.parametrize(
    ("name", "seed"), [("random://octo-tiny", 0), ("random://octo-tiny?seed=7", 7), ("random://octo-tiny?other=1", 0)]
)
def test_an_architecture_and_a_seed_are_named(name: str, seed: int):
    assert architecture_named(name) == (TINY, seed)


@pytest.mark.parametrize(
    "name", ["random://octo-huge", "random://octo-tiny?seed=x", "random://octo-tiny?seed=-1", "random://"]
)
def test_an_architecture_that_is_not_known_is_refused_with_those_that_are(name: str):
    with pytest.raises(ModelConfigError, match=r"random://octo-small-1\.5, .*random://octo-tabletop"):
        architecture_named(name)


SHAPES = {
    "a/kernel": (100, 50),
    "a/bias": (50,),
    "conv/kernel": (4, 4, 6, 64),
    "attention/out/kernel": (4, 16, 64),
    "norm/scale": (3,),
    "t5/layer_norm/weight": (3,),
    "pos_embedding": (1, 20, 64),
}


def test_one_more_leaf_after_the_others_changes_none_of_them():
    one, other = random_leaves(SHAPES, 0), random_leaves(SHAPES | {"z/kernel": (2, 2)}, 0)
    for path in SHAPES:
        np.testing.assert_array_equal(one[path], other[path])


def test_other_seeds_draw_other_leaves():
    assert (random_leaves(SHAPES, 0)["a/kernel"] != random_leaves(SHAPES, 1)["a/kernel"]).all()


@pytest.mark.parametrize(
    ("path", "deviation"),
    [("a/kernel", 100**-0.5), ("conv/kernel", 96**-0.5), ("attention/out/kernel", 64**-0.5), ("pos_embedding", 0.2)],
)
def test_a_kernel_keeps_the_variance_of_what_goes_through_it(path: str, deviation: float):
    leaf = random_leaves(SHAPES, 0)[path]
    assert leaf.std() == pytest.approx(deviation, rel=0.06)
    assert leaf.dtype == np.float32


def test_norms_start_at_one_and_biases_at_zero():
    leaves = random_leaves(SHAPES, 0)
    assert (leaves["norm/scale"] == 1).all()
    assert (leaves["t5/layer_norm/weight"] == 1).all()
    assert (leaves["a/bias"] == 0).all()


def test_a_score_network_may_hand_its_noisy_input_through():
    first, last = np.zeros((10, 16), np.float32), np.zeros((16, 3), np.float32)
    hand_noise_through({"reverse_network/Dense_0/kernel": first, "reverse_network/Dense_1/kernel": last})
    given = np.arange(10, dtype=np.float32)
    hidden = given @ first
    np.testing.assert_allclose(hidden / (1 + np.exp(-hidden)) @ last, 0.95 * given[-3:], rtol=1e-5)


def test_a_score_network_with_too_few_hidden_units_is_left_as_it_is():
    leaves = {"reverse_network/Dense_0/kernel": np.zeros((10, 4)), "reverse_network/Dense_1/kernel": np.zeros((4, 3))}
    hand_noise_through(leaves)
    assert not any(leaf.any() for leaf in leaves.values())


def test_the_description_names_inputs_with_their_shapes_and_the_head():
    text = description(build_octo(TINY.config()["model"]), TINY.example_batch())
    assert "window of 2 timesteps (up to 10), 4 actions of 7 numbers, DiffusionHead" in text
    assert "  image_primary: (batch, window, 256, 256, 3) uint8" in text
    assert "  image_wrist: (batch, 128, 128, 3) uint8" in text
    assert "  language_instruction: text" in text
    assert "timestep_pad_mask" not in text
