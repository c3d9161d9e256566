"""Chunks that continue the last one."""

import numpy as np
import pytest

from vla_server_base.errors import RequestError
from vla_server_base.sessions.continued_chunk import check_continues, continued, old_weights, previous_chunk

OLD, NEW = np.arange(12.0).reshape(6, 2), -np.arange(16.0).reshape(8, 2)


def previous(inference_delay: int = 2, execution_horizon: int = 5):
    found = previous_chunk(OLD, inference_delay, execution_horizon)
    assert found is not None
    return found


def test_an_aligned_chunk_is_the_old_one_until_the_answer_arrives_and_then_the_new_one():
    chunk = continued(NEW, previous(), "aligned")
    np.testing.assert_array_equal(chunk, [*OLD[:2], *NEW[2:]])


def test_a_blended_chunk_goes_over_from_the_old_one_to_the_new_one_in_a_ramp():
    chunk = continued(NEW, previous(), "blended")
    np.testing.assert_array_equal(chunk[[0, 1, 5, 6, 7]], [*OLD[:2], *NEW[5:]])
    weights = np.array([3, 2, 1])[:, None] / 4
    np.testing.assert_allclose(chunk[2:5], weights * OLD[2:5] + (1 - weights) * NEW[2:5])


def test_a_guided_chunk_begins_with_the_old_one_to_the_bit():
    chunk = continued(NEW, previous(), "rtc")
    np.testing.assert_array_equal(chunk, [*OLD[:2], *NEW[2:]])


@pytest.mark.parametrize("execution", ["rtc", "aligned", "blended"])
def test_without_a_previous_chunk_a_chunk_stays_as_it_is(execution):
    assert continued(NEW, None, execution) is NEW


@pytest.mark.parametrize("execution", ["rtc", "aligned"])
def test_without_a_delay_a_chunk_has_no_row_of_the_old_one(execution):
    np.testing.assert_array_equal(continued(NEW, previous(0, 0), execution), NEW)


def test_weights_fall_from_one_to_zero():
    np.testing.assert_allclose(old_weights(2, 6), [1, 1, 0.8, 0.6, 0.4, 0.2])
    np.testing.assert_allclose(old_weights(0, 3), [0.75, 0.5, 0.25])
    assert old_weights(0, 0).shape == (0,)


def test_delay_and_horizon_are_no_more_than_is_left():
    assert previous_chunk(OLD[:0], 1, 2) is None
    found = previous(inference_delay=9, execution_horizon=20)
    assert (found.inference_delay, found.execution_horizon) == (6, 6)
    assert previous(inference_delay=4, execution_horizon=2).execution_horizon == 4


def test_an_inference_delay_is_refused_where_no_chunk_is_continued():
    check_continues("rtc", 3)
    check_continues("chunk", None)
    with pytest.raises(RequestError, match="execution chunk continues no chunk"):
        check_continues("chunk", 3)
