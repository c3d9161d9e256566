"""The engine's queue alone, and the batches in which requests run."""

import logging
from contextvars import copy_context

import numpy as np
import pytest
from test_engine import TASK, WINDOW

from vla_server_base.contract import PolicyInput
from vla_server_base.engine.batches import RequestQueue, run_batch
from vla_server_base.errors import DeadlinePassed, NotFinite, Overloaded, Unavailable, VLAError
from vla_server_base.fairness.claims import Flow
from vla_server_base.monitoring.engine_monitor import EngineMonitor
from vla_server_base.monitoring.monitor import Monitoring
from vla_server_base.request_context import (
    Priority,
    current_client,
    current_deadline,
    current_priority,
    current_request_id,
)
from vla_server_base.testing import EchoAdapter

ADAPTER = EchoAdapter()
MONITOR = EngineMonitor(Monitoring(), "echo")
A, B = "10.0.0.1", "10.0.0.2"


def input_of(seed: int, num_samples: int = 1) -> PolicyInput:
    observation, task = ADAPTER.preprocess_observation(WINDOW), ADAPTER.preprocess_instruction(TASK)
    return PolicyInput(observation=observation, task=task, seed=seed, num_samples=num_samples)


def admit(
    queue: RequestQueue,
    client: str = A,
    seed: int | None = None,
    *,
    num_samples: int = 1,
    priority: Priority = "robot",
    deadline: float | None = None,
):
    """Add a request of a client, and make it ready if it has a seed."""

    def admit_in_context():
        current_client.set(client)
        current_priority.set(priority)
        current_deadline.set(deadline)
        current_request_id.set(f"{client}/{seed}")
        return queue.admit()

    job = copy_context().run(admit_in_context)
    if seed is not None:
        queue.make_ready(job, input_of(seed, num_samples))
    return job


def seeds(batch) -> list[int]:
    return [job.policy_input.seed for job in batch]


def test_an_admitted_request_waits_until_it_is_preprocessed():
    queue = RequestQueue(max_queue=2)
    job = admit(queue)
    assert list(queue.waiting) == [job]
    assert job.claim.flow == Flow(A, "-")
    assert queue.take_batch(8) == []
    queue.make_ready(job, input_of(1))
    assert queue.take_batch(8) == [job]
    assert not queue.waiting


def test_a_batch_has_at_most_its_size_and_takes_clients_in_turn():
    queue = RequestQueue(max_queue=8)
    for client, seed in ((A, 1), (A, 2), (A, 3), (B, 4)):
        admit(queue, client, seed)
    assert seeds(queue.take_batch(3)) == [1, 4, 2]
    assert seeds(queue.take_batch(3)) == [3]


def test_a_full_queue_refuses_the_client_that_filled_it():
    queue = RequestQueue(max_queue=2)
    jobs = [admit(queue), admit(queue)]
    with pytest.raises(Overloaded, match="2 waiting"):
        admit(queue)
    assert list(queue.waiting) == jobs
    assert queue.is_mostly_of(A)
    assert not queue.is_mostly_of(B)


def test_in_a_full_queue_the_last_request_of_the_greediest_client_makes_room():
    queue = RequestQueue(max_queue=3)
    first, second, last = (admit(queue) for _ in range(3))
    other = admit(queue, B)
    assert list(queue.waiting) == [first, second, other]
    with pytest.raises(Overloaded):
        last.answer.result(0)


def test_a_removed_request_is_in_no_batch():
    queue = RequestQueue(max_queue=2)
    job = admit(queue, seed=1)
    assert queue.remove(job)
    assert not queue.remove(job)
    assert queue.take_batch(8) == []


def test_a_cancelled_request_is_in_no_batch():
    queue = RequestQueue(max_queue=2)
    admit(queue, seed=1).answer.cancel()
    admit(queue, seed=2)
    assert seeds(queue.take_batch(8)) == [2]


def test_refusing_all_answers_what_waits_and_what_comes():
    queue = RequestQueue(max_queue=2)
    waiting = admit(queue, seed=1)
    queue.refuse_all(lambda: Unavailable("closed", hint="send again later"))
    with pytest.raises(Unavailable, match="closed"):
        waiting.answer.result(0)
    with pytest.raises(Unavailable, match="closed"):
        admit(queue)
    assert queue.take_batch(8) == []


def test_a_queue_with_a_waiting_request_is_not_quiet():
    queue = RequestQueue(max_queue=2)
    assert queue.is_quiet(0.0)
    job = admit(queue)
    assert not queue.is_quiet(0.0)
    queue.remove(job)
    assert not queue.is_quiet(3600.0), "a request came within the last hour"


def test_a_queue_is_not_quiet_after_the_answer_to_a_request_that_waited_long():
    """A robot that waits for a compilation asks again at once: the next compilation is not to come before it."""
    queue = RequestQueue(max_queue=2)
    queue.remove(admit(queue))
    queue.last_busy_at -= 4.0
    assert queue.is_quiet(4.0)
    queue.note_served(taken_batch(1), 0.1)
    assert not queue.is_quiet(4.0)


class Selective(EchoAdapter):
    """Fails on seed 13, and answers seed 7 with NaN."""

    def predict(self, batch):
        if any(each.seed == 13 for each in batch):
            raise ZeroDivisionError("secret inner workings")
        return [
            np.full_like(chunks, np.nan) if each.seed == 7 else chunks
            for each, chunks in zip(batch, super().predict(batch), strict=True)
        ]


def nobody_else(_) -> None:
    """Interrupt nothing."""


def taken_batch(*numbers: int):
    queue = RequestQueue(max_queue=8)
    for seed in numbers:
        admit(queue, seed=seed)
    return queue.take_batch(8)


def test_each_request_of_a_batch_gets_what_it_would_get_alone():
    batch = taken_batch(1, 2)
    run_batch(ADAPTER, batch, MONITOR, nobody_else)
    for job, seed in zip(batch, (1, 2), strict=True):
        (alone,) = ADAPTER.predict([input_of(seed)])
        np.testing.assert_array_equal(job.answer.result(0).chunks, alone)


def test_a_request_that_fails_takes_no_other_of_its_batch_along(caplog):
    caplog.set_level(logging.WARNING)
    good, failing = taken_batch(1, 13)
    run_batch(Selective(), [good, failing], MONITOR, nobody_else)
    assert np.isfinite(good.answer.result(0).chunks).all()
    with pytest.raises(VLAError, match="the policy failed on this request"):
        failing.answer.result(0)
    assert f"run one by one: {A}/1 {A}/13" in caplog.text


def test_only_the_request_whose_chunk_is_not_finite_is_refused():
    good, bad = taken_batch(1, 7)
    run_batch(Selective(), [good, bad], MONITOR, nobody_else)
    assert np.isfinite(good.answer.result(0).chunks).all()
    with pytest.raises(NotFinite):
        bad.answer.result(0)


def test_a_full_queue_of_an_evaluation_takes_a_robots_request():
    queue = RequestQueue(max_queue=3)
    *_, last = (admit(queue, A, priority="batch") for _ in range(3))
    robot = admit(queue, B)
    assert robot in queue.waiting
    with pytest.raises(Overloaded):
        last.answer.result(0)


def test_a_client_has_only_its_part_of_the_queue_and_its_robot_a_place_in_it():
    queue = RequestQueue(max_queue=8, max_queue_per_client=2)
    *_, last = (admit(queue, A, priority="batch") for _ in range(2))
    with pytest.raises(Overloaded, match="2 waiting") as refused:
        admit(queue, A, priority="batch")
    assert "VLA_MAX_QUEUE_PER_CLIENT" in refused.value.hint
    admit(queue, A)
    with pytest.raises(Overloaded):
        last.answer.result(0)


def test_a_refused_client_is_asked_back_when_what_waits_has_been_served():
    queue = RequestQueue(max_queue=6)
    assert queue.retry_after_s == 1
    queue.note_served(taken_batch(1, 2), 3.0)
    for _ in range(6):
        admit(queue)
    with pytest.raises(Overloaded) as refused:
        admit(queue)
    assert refused.value.retry_after_s == 9


def test_a_request_whose_deadline_has_passed_is_in_no_batch():
    queue = RequestQueue(max_queue=2)
    late = admit(queue, seed=1, deadline=0.0)
    in_time = admit(queue, seed=2)
    assert queue.take_batch(8) == [in_time]
    with pytest.raises(DeadlinePassed):
        late.answer.result(0)


class Clock:
    """A time that only a test changes."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def timed_queue(*batch_seconds: float, **options) -> tuple[RequestQueue, Clock]:
    """A queue whose device has taken so long for its last batches, and its clock."""
    clock = Clock()
    queue = RequestQueue(max_queue=128, clock=clock, **options)
    for seconds in batch_seconds:
        queue.note_served(taken_batch(1), seconds)
    return queue, clock


def test_what_has_waited_until_it_cannot_be_in_time_is_not_begun():
    queue, clock = timed_queue(0.3, 0.2, 0.4)
    hopeless, in_time = admit(queue, seed=1, deadline=100.25), admit(queue, seed=2, deadline=100.3)
    clock.now = 100.1
    assert queue.take_batch(8) == [in_time]
    with pytest.raises(DeadlinePassed, match="150 ms are left, the device takes 200"):
        hopeless.answer.result(0)


def test_what_may_be_in_time_by_the_least_of_the_last_times_is_begun():
    queue, clock = timed_queue(0.3, 0.2)
    job = admit(queue, seed=1, deadline=100.5)
    clock.now = 100.25
    assert queue.take_batch(8) == [job]


def test_a_deadline_that_no_request_could_meet_is_tried():
    """It may be of a kind that takes less, such as one with fewer cameras; only running it shows that."""
    queue, clock = timed_queue(0.2)
    job = admit(queue, seed=1, deadline=100.15)
    clock.now = 100.1
    assert queue.take_batch(8) == [job]
    queue.note_served([job], 0.05)
    job = admit(queue, seed=1, deadline=100.25)
    clock.now = 100.15
    assert queue.take_batch(8) == [job]


def test_times_of_many_samples_and_times_long_ago_tell_nothing_of_a_request():
    queue, clock = timed_queue(0.01, *[0.5] * 64)
    many = admit(queue, seed=1, num_samples=8)
    queue.note_served(queue.take_batch(1), 0.1)
    assert many not in queue.waiting
    hopeless = admit(queue, seed=2, deadline=100.6)
    clock.now = 100.2
    assert queue.take_batch(8) == []
    assert hopeless.answer.exception(0) is not None


def test_before_any_time_is_known_and_without_a_deadline_all_is_begun():
    queue, clock = timed_queue()
    first = admit(queue, seed=1, deadline=100.2)
    clock.now = 100.19
    assert queue.take_batch(8) == [first]
    queue.note_served([first], 9.0)
    patient = admit(queue, seed=2)
    clock.now = 200.0
    assert queue.take_batch(8) == [patient]


class InPieces(EchoAdapter):
    """Gives one sample at a time."""

    def predict_in_pieces(self, policy_input):
        for row in self.predict([policy_input])[0]:
            yield row[None]


def test_between_the_pieces_of_a_long_request_those_of_others_run_and_none_of_its_client():
    queue, order = RequestQueue(max_queue=8), []
    long = admit(queue, seed=1, num_samples=3)
    (taken,) = queue.take_batch(1)
    own, urgent = admit(queue, seed=2), admit(queue, B, seed=3)
    long_too = admit(queue, "10.0.0.3", seed=4, num_samples=3)

    def run_others(claim) -> None:
        assert claim is long.claim
        order.extend(queue.take_batch(1, beside=claim))

    run_batch(InPieces(), [taken], MONITOR, run_others)
    assert order == [urgent]
    assert {own, long_too} <= set(queue.waiting)
    (alone,) = ADAPTER.predict([input_of(1, num_samples=3)])
    np.testing.assert_array_equal(long.answer.result(0).chunks, alone)


def test_the_device_rests_after_a_floods_request_while_another_client_is_about():
    queue = RequestQueue(max_queue=4)
    flood = [admit(queue, A) for _ in range(3)]
    assert not queue.rest_after(flood[0].claim, 0.001), "nobody else is there"
    queue.remove(robot := admit(queue, B))
    assert queue.rest_after(flood[0].claim, 0.001)
    assert not queue.rest_after(robot.claim, 0.001), "the robot does not flood"


def test_the_device_does_not_rest_when_another_clients_request_is_ready():
    queue = RequestQueue(max_queue=4)
    flood = [admit(queue, A) for _ in range(3)]
    admit(queue, B, seed=1)
    assert not queue.rest_after(flood[0].claim, 60.0)


def test_the_device_rests_after_an_evaluations_request_while_a_robot_is_about():
    queue = RequestQueue(max_queue=8)
    evaluation = admit(queue, A, priority="batch")
    assert not queue.rest_after(evaluation.claim, 0.001)
    admit(queue, B, priority="batch")
    assert not queue.rest_after(evaluation.claim, 0.001), "another evaluation is no more urgent"
    queue.remove(admit(queue, B))
    assert queue.rest_after(evaluation.claim, 0.001)
