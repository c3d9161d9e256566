"""A trial's result: what was lifted, in which order, and what moved farthest, from the states alone."""

import numpy as np
import pytest

from vla_server_base.tabletop.tables import NUM_FINGERS, NUM_FREE, OBJECTS, TABLES
from vla_server_base.tabletop.tasks import LIFTED_M, TASKS
from vla_server_base.tabletop.trial_result import MOVED_M, trial_result
from vla_server_base.tabletop.trials import draw_trial

RED, BLUE, GREEN = OBJECTS
TRIAL = draw_trial(TASKS[f"pick_up_{RED}"], 3, jitter=False)


def states(*steps: dict[str, tuple[float, float, float]]) -> np.ndarray:
    """Return the states of an episode in which objects are shifted from their starts."""
    rows = [TRIAL.start.qpos.copy() for _ in range(len(steps) + 1)]
    first = TABLES["panda"].num_joints + NUM_FINGERS
    for row, shifts in zip(rows[1:], steps, strict=True):
        for name, shift in shifts.items():
            start = first + NUM_FREE * OBJECTS.index(name)
            row[start : start + 3] += shift
    return np.array(rows)


def test_nothing_moves_when_the_states_stay():
    result = trial_result(TRIAL, "max_steps", states({}, {}), [], 1.23456)
    assert (result.success, result.lifted, result.moved) == (False, (), None)
    assert (result.num_steps, result.duration_s) == (2, 1.235)


def test_the_trial_is_named_by_task_seed_and_instruction():
    result = trial_result(TRIAL, "success", states({}), [], 1.0)
    assert (result.task, result.seed, result.instruction) == (TRIAL.task.name, 3, TRIAL.instruction)
    assert (result.success, result.reason) == (True, "success")


@pytest.mark.parametrize(("rise", "lifted"), [(LIFTED_M - 0.001, ()), (LIFTED_M + 0.001, (BLUE,))])
def test_an_object_is_lifted_from_a_height_on(rise, lifted):
    assert trial_result(TRIAL, "max_steps", states({BLUE: (0, 0, rise)}), [], 1.0).lifted == lifted


def test_lifted_objects_are_in_the_order_of_their_lifts():
    high = (0, 0, 0.1)
    result = trial_result(TRIAL, "max_steps", states({GREEN: high}, {}, {RED: high, GREEN: high}), [], 1.0)
    assert result.lifted == (GREEN, RED)


@pytest.mark.parametrize(("shift", "moved"), [(MOVED_M - 0.001, None), (MOVED_M + 0.001, GREEN)])
def test_an_object_is_moved_from_a_distance_on(shift, moved):
    assert trial_result(TRIAL, "max_steps", states({GREEN: (shift, 0, 0)}), [], 1.0).moved == moved


def test_the_object_that_moved_farthest_counts_even_if_it_came_back():
    result = trial_result(TRIAL, "max_steps", states({RED: (0, 0.3, 0)}, {BLUE: (0.1, 0, 0)}), [], 1.0)
    assert result.moved == RED


@pytest.mark.parametrize(("waits", "median"), [([], 0.0), ([0.0, 4.0, 0.0, 8.0], 6.0), ([1.23456], 1.235)])
def test_the_policys_time_is_the_median_of_its_answers(waits, median):
    assert trial_result(TRIAL, "success", states({}), waits, 1.0).predict_ms == median
