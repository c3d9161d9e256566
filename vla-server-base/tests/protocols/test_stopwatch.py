"""The times that a reply carries."""

import time

import pytest

from vla_server_base.protocols.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets, in seconds."""
    now = [10.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_laps_follow_one_another_and_the_total_has_all(clock):
    watch = Stopwatch()
    clock[0] += 0.002
    watch.lap("read")
    clock[0] += 0.005
    watch.lap("answer")
    clock[0] += 0.001
    assert watch.timing_ms(infer=3.0) == {"read": 2.0, "answer": 5.0, "infer": 3.0, "total": 8.0}


def test_times_are_in_thousandths_of_a_millisecond(clock):
    watch = Stopwatch()
    clock[0] += 1.23456789e-3
    watch.lap("read")
    assert watch.timing_ms()["read"] == 1.235
