"""What an engine counts for those who add and remove replicas."""

import time
from dataclasses import replace

import pytest

from vla_server_base.engine.batches import RequestQueue
from vla_server_base.errors import Overloaded
from vla_server_base.monitoring.engine_load import EngineLoad


def test_what_is_not_known_yet_is_missing():
    assert EngineLoad().stats() == {"arrivals_per_s": 0.0, "late": 0.0}


def test_the_pace_is_that_of_the_best_size_of_batch():
    load = EngineLoad()
    load.note_served(1, 0.02)
    load.note_served(8, 0.04)
    assert load.stats()["seconds_each"] == 0.005
    assert 0.02 < load.stats()["batch_s"] < 0.04


def test_most_requests_have_at_least_the_time_that_is_reported():
    load = EngineLoad()
    for deadline_s in [0.001] + [0.5] * 30 + [5.0] * 30:
        load.note_asked(time.monotonic() + deadline_s)
    assert load.stats()["due_s"] == pytest.approx(0.5, abs=0.01)


def test_a_request_that_cannot_end_in_time_counts_as_late():
    load = EngineLoad()
    load.note_served(1, 10.0)
    for deadline_s in (None, 5.0, 60.0):
        load.note_asked(time.monotonic() + (deadline_s or 1.0))
        load.note_taken(None if deadline_s is None else time.monotonic() + deadline_s)
    assert load.stats()["late"] == pytest.approx(1 / 3)


def test_a_queue_counts_what_waits_and_what_it_refuses():
    queue = RequestQueue(max_queue=1)
    queue.admit()
    with pytest.raises(Overloaded):
        queue.admit()
    assert queue.load["waiting"] == 1.0
    assert queue.load["late"] == 0.5


def test_a_request_that_leaves_after_its_deadline_is_late_and_one_that_leaves_before_is_not():
    queue = RequestQueue(max_queue=2)
    gave_up, came_too_late = queue.admit(), queue.admit()
    came_too_late.claim = replace(came_too_late.claim, deadline=time.monotonic())
    for job in (gave_up, came_too_late):
        queue.remove(job)
    assert queue.load["late"] == 0.5
