"""The fields of an episode: unambiguous values are converted, all others are refused."""

import jaxtyping
import numpy as np
import pytest
from recorded_episodes import made_episode

from vla_server_base.datasets import ArrayStore, ArrayStoreWriter
from vla_server_base.errors import DatasetError

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 16, 24, 3), np.uint8)
GREY = IMAGES[..., :1]


@pytest.fixture(autouse=True)
def _without_runtime_types():
    """Run without runtime types, as a user's program does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(IMAGES / np.float32(255), IMAGES, id="floats of 0 to 1"),
        pytest.param(IMAGES / np.float64(255) + 1e-3, IMAGES, id="floats a little beyond 1"),
        pytest.param(IMAGES.astype(np.float32), IMAGES, id="floats of 0 to 255"),
        pytest.param(IMAGES.astype(np.int64), IMAGES, id="integers"),
        pytest.param(np.moveaxis(IMAGES, -1, 1), IMAGES, id="channels first"),
        pytest.param(np.moveaxis(IMAGES, -1, 1) / np.float32(255), IMAGES, id="as tensors are"),
        pytest.param(np.pad(IMAGES, [(0, 0)] * 3 + [(0, 1)]), IMAGES, id="with transparency"),
        pytest.param(GREY, np.repeat(GREY, 3, axis=-1), id="grey"),
        pytest.param(GREY[..., 0], np.repeat(GREY, 3, axis=-1), id="grey without a channel axis"),
        pytest.param(list(IMAGES), IMAGES, id="a list of images"),
    ],
)
def test_images_of_a_clear_range_are_converted(tmp_path, given, expected):
    with ArrayStoreWriter(tmp_path, fps=5) as writer:
        writer.append(made_episode(0, images={"primary": given}))
    images = ArrayStore(tmp_path)[0].images["primary"]
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (IMAGES / np.float32(127.5) - 1, r"camera primary: images of float32 with numbers from -1 to 1"),
        (IMAGES / np.float32(170), r"from 0 to 1\.5"),
        (IMAGES.astype(np.uint16) * 200, r"images of uint16 with numbers from 0 to 51000"),
        (IMAGES.astype(np.int16) - 9, r"images of int16 with numbers from -9"),
        (np.full((7, 8, 8, 3), np.nan), r"the image at timestep 0 has numbers that are not finite"),
        (IMAGES > 9, r"expected numbers, got bool"),
        (np.zeros((7, 8, 8, 2), np.uint8), r"got \(7, 8, 8, 2\)"),
        (np.zeros((7, 1, 8, 8, 3), np.uint8), r"got \(7, 1, 8, 8, 3\)"),
        (np.zeros((7, 0, 8, 3), np.uint8), r"got \(7, 0, 8, 3\)"),
        (np.array([b"\xff\xd8"] * 7), r"expected numbers, got \|S2"),
    ],
)
def test_ambiguous_images_are_refused(given, message):
    with pytest.raises(DatasetError, match=message) as error:
        made_episode(0, images={"primary": given})
    assert "uint8 of shape (length, height, width, 3)" in error.value.hint


def test_numbers_and_texts_may_have_other_types():
    drove = np.array([1, 0, 1, 1, 1, 1, 1])
    episode = made_episode(
        0, actions=np.arange(7.0), proprio=np.ones((7, 2), int), expert_drove=drove, instruction=np.bytes_(b"greif zu")
    )
    assert (episode.actions.dtype, episode.actions.shape) == (np.float32, (7, 1))
    assert (episode.proprio.dtype, episode.expert_drove.dtype) == (np.float32, bool)
    assert episode.instruction == "greif zu"
    assert made_episode(0, instruction=np.array("pick", object)).instruction == "pick"


def number_at(timestep: int, value: float) -> np.ndarray:
    numbers = np.zeros((7, 7))
    numbers[timestep, 2] = value
    return numbers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": number_at(3, np.nan)}, "actions: number 2 at timestep 3 is nan, not a finite number"),
        ({"actions": number_at(6, 1e300)}, "actions: number 2 at timestep 6 is inf"),
        ({"proprio": number_at(0, -np.inf)}, "proprio: number 2 at timestep 0 is -inf"),
        ({"environment_state": number_at(1, np.nan)}, "environment_state: number 2 at timestep 1"),
        ({"actions": np.zeros((7, 4, 7))}, r"actions: expected an array of shape .*, got \(7, 4, 7\)"),
        ({"actions": np.zeros((7, 0))}, r"actions: expected an array of shape .*, got \(7, 0\)"),
        ({"actions": [[1.0]] * 6 + [[1.0, 2.0]]}, "actions: expected an array, got rows of different lengths"),
        ({"actions": np.array(["a"] * 7)}, "actions: expected numbers, got an array of <U1"),
        ({"actions": np.zeros((6, 7))}, "an episode has 6 actions, but another number of timesteps in"),
        ({"expert_drove": np.array([2] * 7)}, "expert_drove: expected only true and false"),
        ({"instruction": b"\xff"}, r"instruction: expected UTF-8, got b'\\xff'"),
        ({"instruction": None}, "instruction: expected a text, got NoneType"),
        ({"action_names": ("dx", "dy")}, "action_names: expected 7, one for each number, got 2: dx, dy"),
        ({"proprio": None, "proprio_names": ("joint",)}, "proprio_names: expected 0"),
        ({"metadata": {"seed": np.int64(3)}}, "metadata: expected what JSON can hold"),
    ],
)
def test_a_field_that_cannot_be_converted_is_named(changes, message):
    with pytest.raises(DatasetError, match=message) as error:
        made_episode(0, **changes)
    assert error.value.hint


def test_an_episode_needs_a_timestep():
    with pytest.raises(DatasetError, match="at least one timestep"):
        made_episode(0, length=0)


def test_a_store_whose_numbers_went_bad_says_in_which_episode(tmp_path, episodes):
    with ArrayStoreWriter(tmp_path, fps=5) as writer:
        for episode in episodes:
            writer.append(episode)
    stored = np.memmap(tmp_path / "actions.raw", np.float32, "r+", shape=(22, 7))
    stored[8, 4] = np.nan
    stored.flush()
    with pytest.raises(DatasetError, match=r"episode 1 of .*: actions: number 4 at timestep 1 is nan") as error:
        ArrayStore(tmp_path)[1]
    assert "--without" in error.value.hint
