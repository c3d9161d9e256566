"""A deadline counts from when the image was taken, on a clock that does not jump."""

import math
import time

import pytest

from vla_client.deadline import Deadline, checked_limit_ms, time_seen
from vla_client.errors import DeadlineExceeded, ObservationError


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock at 100 s that stands still."""
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)


@pytest.mark.parametrize(
    ("seen_at", "limit_ms", "left_s"),
    [(100.0, 50, 0.05), (99.98, 50, 0.03), (99.0, 50, 0.0), (0.0, math.inf, math.inf)],
)
def test_the_time_left_is_never_negative(seen_at, limit_ms, left_s):
    assert Deadline(seen_at=seen_at, limit_ms=limit_ms).left_s == pytest.approx(left_s)


def test_a_deadline_that_has_not_passed_raises_nothing():
    Deadline(seen_at=99.98, limit_ms=50).check("no reason")
    Deadline(seen_at=0.0, limit_ms=math.inf).check("no reason")


def test_a_passed_deadline_says_the_age_the_limit_and_why():
    with pytest.raises(DeadlineExceeded) as raised:
        Deadline(seen_at=99.9, limit_ms=50).check("the server has not answered yet")
    assert raised.value.message == (
        "the image is 100 ms old, at most 50 ms are allowed: the server has not answered yet"
    )
    assert raised.value.code == "deadline_exceeded"


def test_no_deadline_is_an_infinite_one():
    assert checked_limit_ms(None) == math.inf
    assert checked_limit_ms(50) == 50


@pytest.mark.parametrize("deadline_ms", [0, -1.0, math.nan])
def test_a_deadline_is_above_zero(deadline_ms):
    with pytest.raises(ValueError, match="expected milliseconds above 0, got"):
        checked_limit_ms(deadline_ms)


def test_an_image_without_a_time_is_taken_now():
    assert time_seen(None) == 100.0
    assert time_seen(99) == 99.0


@pytest.mark.parametrize("obs_time", [100.1, 1.8e9, math.nan])
def test_a_time_in_the_future_is_of_another_clock(obs_time):
    with pytest.raises(ObservationError, match=r"expected a time of time.monotonic\(\), at most 100.000 s") as raised:
        time_seen(obs_time)
    assert "time.monotonic() - (time.time() - stamp)" in raised.value.hint
