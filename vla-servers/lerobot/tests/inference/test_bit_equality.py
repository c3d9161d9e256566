"""A chunk is LeRobot's own, bit for bit, for every policy type."""

import numpy as np
import pytest
from lerobot_itself import LeRobotItself
from policy_requests import an_input, seen_by


@pytest.fixture(scope="module")
def itself(kind, checkpoint) -> LeRobotItself:
    return LeRobotItself(checkpoint(kind))


def test_a_chunk_is_what_lerobot_predicts(adapter, itself):
    observation = seen_by(adapter.spec)
    ours = adapter.predict([an_input(adapter, [observation], seed=7)])[0][0]
    assert np.array_equal(ours, itself.chunk([observation] * adapter.spec.window, seed=7))


def test_a_window_of_history_is_what_lerobot_predicts(adapter, itself):
    observations = [seen_by(adapter.spec, seed) for seed in range(adapter.spec.window + 1)]
    ours = adapter.predict([an_input(adapter, observations, seed=3)])[0][0]
    assert np.array_equal(ours, itself.chunk(observations[-adapter.spec.window :], seed=3))


def test_a_chunk_post_processed_at_once_is_action_by_action(adapter, itself):
    observation = seen_by(adapter.spec)
    ours = adapter.predict([an_input(adapter, [observation], seed=7)])[0][0]
    normalized = itself.normalized([itself.batch(observation)] * adapter.spec.window, seed=7)
    assert np.array_equal(ours, [itself.post(action)[0].numpy() for action in normalized.movedim(1, 0)])


def test_a_chunk_repeats_from_seed_and_step(adapter):
    request = an_input(adapter, [seen_by(adapter.spec)], seed=5, step=9)
    first = adapter.predict([request])[0]
    adapter.predict([an_input(adapter, [seen_by(adapter.spec, 1)], seed=6)])
    assert np.array_equal(adapter.predict([request])[0], first)
