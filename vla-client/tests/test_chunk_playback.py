"""A chunk's rows become actions at the robot's rate."""

from fractions import Fraction

import numpy as np
import pytest

from vla_client.action_kinds import Kind, kinds_of
from vla_client.chunk_playback import ChunkPlayback

ROWS = np.array([[0.0, 0.0, 0.0, 1.0], [1.0, 2.0, 4.0, 0.0], [2.0, 4.0, 0.0, 1.0]])
KINDS: tuple[Kind, ...] = ("target", "delta", "velocity", "switch")


def action_at(playback: ChunkPlayback, position) -> np.ndarray:
    action = playback.action_at(Fraction(position))
    assert action is not None
    return action


def playback(ticks_per_step) -> ChunkPlayback:
    playback = ChunkPlayback(KINDS, 1 / Fraction(ticks_per_step))
    playback.put(0, ROWS, now=0)
    return playback


def test_between_two_rows_each_number_goes_on_as_its_kind_says():
    np.testing.assert_allclose(action_at(playback(4), Fraction(3, 2)), [1.5, 0.5, 2.0, 0.0])


def test_at_a_row_targets_are_that_rows():
    np.testing.assert_allclose(action_at(playback(4), 1), [1.0, 0.5, 4.0, 0.0])


def test_the_last_row_lasts_a_step_and_then_there_is_none():
    np.testing.assert_allclose(action_at(playback(4), Fraction(11, 4)), [2.0, 1.0, 0.0, 1.0])
    assert playback(4).action_at(Fraction(3)) is None


@pytest.mark.parametrize("ticks_per_step", [1, 3, 5, Fraction(10, 3), Fraction(5, 4)])
def test_the_motions_of_all_ticks_add_up_to_the_rows(ticks_per_step):
    play, position, total = playback(ticks_per_step), Fraction(0), 0.0
    while (action := play.action_at(position)) is not None:
        position, total = position + 1 / Fraction(ticks_per_step), total + action[1]
    assert total == pytest.approx(ROWS[:, 1].sum())


def test_a_later_answer_is_played_from_the_present_step_on():
    play = playback(1)
    assert play.put(1, ROWS + 100, now=2) == 1
    np.testing.assert_allclose(action_at(play, 2), ROWS[1] + 100)
    assert play.num_left(2) == 2


def test_an_answer_that_is_over_replaces_nothing():
    play = playback(1)
    assert play.put(1, ROWS[:1] + 100, now=2) == 1
    np.testing.assert_allclose(action_at(play, 2), ROWS[2])


def test_still_is_the_same_target_and_no_motion():
    np.testing.assert_array_equal(playback(1).still(np.ones(4)), [1.0, 0.0, 0.0, 1.0])


def test_kinds_follow_from_names_and_units():
    names, units = ("dx", "delta_yaw", "joint1", "wheel", "gripper"), ("m", "rad", "rad", "rad/s", "0 closed, 1 open")
    assert kinds_of(names, units, None) == ("delta", "delta", "target", "velocity", "switch")
    assert kinds_of(names, (), {"wheel": "velocity"})[3:] == ("velocity", "switch")
    assert kinds_of(names, units, "target") == ("target",) * 5


@pytest.mark.parametrize("name", ["0", "action_3", "a7", "x"])
def test_a_number_whose_name_may_mean_either_needs_a_kind(name):
    with pytest.raises(ValueError, match=f"does not say whether '{name}' of its action is a target or a motion"):
        kinds_of((name,), ("",), None)
    assert kinds_of((name,), ("",), "target") == ("target",)
