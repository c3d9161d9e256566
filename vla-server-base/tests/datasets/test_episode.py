"""What an episode is made of: other forms are brought to one where it is plain what they mean, all else is refused."""

import jaxtyping
import numpy as np
import pytest
from recorded_episodes import made_episode

from vla_server_base.datasets import ArrayStore, ArrayStoreWriter
from vla_server_base.errors import DatasetError

PICTURES = np.random.default_rng(0).integers(0, 256, (7, 16, 24, 3), np.uint8)
GREY = PICTURES[..., :1]


@pytest.fixture(autouse=True)
def _without_the_types_that_tests_check():
    """As in a user's own program."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(PICTURES / np.float32(255), PICTURES, id="floats of 0 to 1"),
        pytest.param(PICTURES / np.float64(255) + 1e-3, PICTURES, id="floats a little beyond 1"),
        pytest.param(PICTURES.astype(np.float32), PICTURES, id="floats of 0 to 255"),
        pytest.param(PICTURES.astype(np.int64), PICTURES, id="integers"),
        pytest.param(np.moveaxis(PICTURES, -1, 1), PICTURES, id="colours first"),
        pytest.param(np.moveaxis(PICTURES, -1, 1) / np.float32(255), PICTURES, id="as tensors are"),
        pytest.param(np.pad(PICTURES, [(0, 0)] * 3 + [(0, 1)]), PICTURES, id="with transparency"),
        pytest.param(GREY, np.repeat(GREY, 3, axis=-1), id="grey"),
        pytest.param(GREY[..., 0], np.repeat(GREY, 3, axis=-1), id="grey without an axis of colours"),
        pytest.param(list(PICTURES), PICTURES, id="a list of pictures"),
    ],
)
def test_pictures_are_trained_on_as_they_were_meant(tmp_path, given, expected):
    with ArrayStoreWriter(tmp_path, fps=5) as writer:
        writer.append(made_episode(0, images={"primary": given}))
    found = ArrayStore(tmp_path)[0].images["primary"]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (PICTURES / np.float32(127.5) - 1, r"camera primary: pictures of float32 with numbers from -1 to 1"),
        (PICTURES / np.float32(170), r"from 0 to 1\.5"),
        (PICTURES.astype(np.uint16) * 200, r"pictures of uint16 with numbers from 0 to 51000"),
        (PICTURES.astype(np.int16) - 9, r"pictures of int16 with numbers from -9"),
        (np.full((7, 8, 8, 3), np.nan), r"the picture at timestep 0 has numbers that are not finite"),
        (PICTURES > 9, r"pictures of bool"),
        (np.zeros((7, 8, 8, 2), np.uint8), r"pictures of shape \(7, 8, 8, 2\)"),
        (np.zeros((7, 1, 8, 8, 3), np.uint8), r"pictures of shape \(7, 1, 8, 8, 3\)"),
        (np.zeros((7, 0, 8, 3), np.uint8), r"pictures of shape \(7, 0, 8, 3\)"),
        (np.array([b"\xff\xd8"] * 7), r"pictures of \|S2"),
    ],
)
def test_pictures_of_which_it_cannot_be_told_what_they_mean_are_refused(given, message):
    with pytest.raises(DatasetError, match=message) as error:
        made_episode(0, images={"primary": given})
    assert "uint8 of shape (length, height, width, 3)" in error.value.hint


def test_numbers_and_texts_may_have_other_types():
    drove = np.array([1, 0, 1, 1, 1, 1, 1])
    found = made_episode(
        0, actions=np.arange(7.0), proprio=np.ones((7, 2), int), expert_drove=drove, instruction=np.bytes_(b"greif zu")
    )
    assert (found.actions.dtype, found.actions.shape) == (np.float32, (7, 1))
    assert (found.proprio.dtype, found.expert_drove.dtype) == (np.float32, bool)
    assert found.instruction == "greif zu"
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
        ({"actions": np.zeros((7, 4, 7))}, r"actions: an array of shape \(7, 4, 7\)"),
        ({"actions": np.zeros((7, 0))}, r"actions: an array of shape \(7, 0\)"),
        ({"actions": [[1.0]] * 6 + [[1.0, 2.0]]}, "actions: no array can be made of it"),
        ({"actions": np.array(["a"] * 7)}, "actions: <U1 is no type of numbers"),
        ({"actions": np.zeros((6, 7))}, "an episode has 6 actions, but is of another length in"),
        ({"expert_drove": np.array([2] * 7)}, "expert_drove: something else than true and false"),
        ({"instruction": b"\xff"}, r"instruction: b'\\xff' is no UTF-8"),
        ({"instruction": None}, "instruction: NoneType is no text"),
        ({"metadata": {"seed": np.int64(3)}}, "metadata: not what JSON holds"),
    ],
)
def test_what_cannot_be_trained_on_is_named(changes, message):
    with pytest.raises(DatasetError, match=message) as error:
        made_episode(0, **changes)
    assert error.value.hint


def test_an_episode_without_a_timestep_is_none():
    with pytest.raises(DatasetError, match="without a timestep"):
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
