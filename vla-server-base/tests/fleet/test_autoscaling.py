"""The number of model replicas follows what waits and what is late; Serve calls the policy in its controller."""

import math
import time
from dataclasses import fields, replace

import pytest

from vla_server_base.engine.batches import RequestQueue
from vla_server_base.fleet.autoscaling import POLICY, scale_by_deadline
from vla_server_base.fleet.demand import (
    FULL,
    LONGEST_WAIT,
    ReplicaLoad,
    Shortage,
    TierLoad,
    num_replicas_for,
    replica_load,
)

IDLE = ReplicaLoad(due_s=0.5, batch_s=0.02, seconds_each=0.02)
STEADY = replace(IDLE, arrivals_per_s=20.0, waiting=1.0)


def tier(*replicas: ReplicaLoad, num_running: int | None = None, num_wanted: int | None = None, **changes) -> TierLoad:
    running = len(replicas) if num_running is None else num_running
    wanted = running if num_wanted is None else num_wanted
    load = TierLoad(
        replicas=replicas, num_running=running, num_wanted=wanted, queued=0.0, min_replicas=1, max_replicas=8
    )
    return replace(load, **changes)


def needed(load: TierLoad, shortage: Shortage | None = None) -> int:
    return num_replicas_for(load, shortage or Shortage())[0]


def test_requests_that_wait_well_within_their_deadlines_add_no_replica():
    assert needed(tier(STEADY)) == 1
    # The device works all the time, and each request is still answered in a fifth of its time.
    assert needed(tier(replace(STEADY, arrivals_per_s=50.0, waiting=4.0))) == 1


def test_a_burst_adds_as_many_replicas_as_work_it_off_in_time():
    burst = replace(STEADY, waiting=60.0)
    num_replicas = needed(tier(burst))
    waits_s = burst.waiting * 0.02 / num_replicas + 0.02
    assert waits_s <= LONGEST_WAIT * 0.5
    assert burst.waiting * 0.02 / (num_replicas - 1) + 0.02 > LONGEST_WAIT * 0.5


def test_requests_that_wait_outside_the_replicas_count():
    assert needed(tier(STEADY, queued=30.0)) > 1


def test_late_requests_add_replicas_for_all_that_is_asked():
    overload = replace(STEADY, arrivals_per_s=120.0, waiting=8.0, late=0.5)
    assert needed(tier(overload)) == math.ceil(120.0 * 0.02 / FULL)


def test_a_few_late_requests_add_one_replica():
    assert needed(tier(replace(STEADY, late=0.05), STEADY)) == 3


def test_deadlines_shorter_than_a_batch_add_no_replica():
    hopeless = replace(STEADY, due_s=0.01, late=1.0, waiting=0.1)
    assert needed(tier(hopeless)) == 1


def test_replicas_that_start_are_not_asked_for_twice():
    overload = replace(STEADY, waiting=18.0)
    assert needed(tier(overload)) == 2
    assert needed(tier(overload, num_wanted=2)) == 2


def test_the_bounds_hold():
    assert needed(tier(replace(STEADY, waiting=10_000.0), max_replicas=5)) == 5
    assert needed(tier(IDLE, IDLE, IDLE, min_replicas=2)) == 2


def test_no_requests_leave_the_fewest_replicas():
    assert needed(tier(IDLE, IDLE, IDLE)) == 1
    assert needed(tier(IDLE, min_replicas=0)) == 0
    # Not one request has come yet, so no pace is known.
    assert needed(tier(ReplicaLoad(), ReplicaLoad())) == 1


def test_while_a_replica_reports_nothing_none_is_removed():
    assert needed(tier(IDLE, num_running=3)) == 3
    assert needed(tier(num_running=2)) == 2
    assert needed(tier(num_running=0, num_wanted=1)) == 1
    assert needed(tier(replace(STEADY, waiting=60.0), num_running=2)) > 2


def test_a_replica_that_has_answered_nothing_yet_counts_at_the_pace_of_the_others():
    new = ReplicaLoad(waiting=60.0, arrivals_per_s=1.0)
    assert needed(tier(STEADY, new)) > 2
    # Nobody's pace is known.
    assert needed(tier(new, num_wanted=3)) == 3


def test_a_replica_is_removed_when_the_others_carry_the_load_with_room():
    assert needed(tier(*[replace(IDLE, arrivals_per_s=10.0)] * 2)) == 1
    assert needed(tier(*[replace(IDLE, arrivals_per_s=20.0)] * 2)) == 2


@pytest.mark.parametrize("rate", [5.0, 30.0, 45.0, 80.0, 200.0, 390.0])
@pytest.mark.parametrize("due_s", [0.05, 0.1, 0.5])
def test_a_steady_load_ends_at_one_number_of_replicas(rate: float, due_s: float):
    num_replicas, shortage, chosen = 1, Shortage(), []
    for _ in range(40):
        each = loaded_replica(rate / num_replicas, due_s)
        load = tier(*[each] * num_replicas, max_replicas=16)
        num_replicas, shortage = num_replicas_for(load, shortage)
        chosen.append(num_replicas)
    assert len(set(chosen[10:])) == 1
    load_of_each = 0.02 * rate / num_replicas
    assert load_of_each < 1.0


def loaded_replica(rate: float, due_s: float) -> ReplicaLoad:
    """Return the load of a device that takes 20 ms each, under random requests that are dropped when due."""
    busy = 0.02 * rate
    most = due_s / 0.02
    waiting = min(most, busy**2 / (2 * (1 - busy))) if busy < 1 else most
    late = max(0.0, 1 - 1 / busy) if busy > 0 else 0.0
    return ReplicaLoad(waiting=waiting, arrivals_per_s=rate, late=late, due_s=due_s, batch_s=0.02, seconds_each=0.02)


def test_replicas_that_were_too_few_are_not_tried_again_under_the_same_load():
    two_at_random = tier(*[replace(IDLE, arrivals_per_s=12.0)] * 2)
    was_short = Shortage(num_replicas=1, devices=0.48)
    assert needed(two_at_random) == 1
    assert needed(two_at_random, was_short) == 2
    assert needed(tier(*[replace(IDLE, arrivals_per_s=8.0)] * 2), was_short) == 1


def test_numbers_that_are_not_finite_count_as_not_reported():
    assert replica_load({}) is None
    assert replica_load({"waiting": [math.nan, -1.0], "other": [3.0]}) is None
    assert replica_load({"waiting": [math.nan, 2.0, math.inf, 4.0]}) == ReplicaLoad(waiting=3.0)


def test_a_queue_reports_what_the_policy_reads():
    queue = RequestQueue(max_queue=1)
    job = queue.admit()
    queue.remove(job)
    queue.note_served([job], 0.02)
    assert queue.load.keys() == {field.name for field in fields(ReplicaLoad)}


# Ray Serve's own, when it is imported.
ON_IMPORT = pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`:DeprecationWarning")
NOW = 1000.0


def decide(*reports: dict[str, list[float]], age_s: float = 1.0, state: dict | None = None) -> tuple[int, dict]:
    """Return what the policy answers Serve about replicas that reported these values so long ago."""
    from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
    from ray.serve.config import AutoscalingConfig, AutoscalingContext

    deployment = DeploymentID(name="model", app_name="octo")
    replicas = [ReplicaID(unique_id=str(number), deployment_id=deployment) for number in range(len(reports))]
    raw: dict = {}
    for replica, report in zip(replicas, reports, strict=True):
        for name, values in report.items():
            raw.setdefault(name, {})[replica] = [TimeStampedValue(NOW - age_s, value) for value in values]
    context = AutoscalingContext(
        deployment_id=deployment,
        deployment_name="model",
        app_name="octo",
        current_num_replicas=len(replicas),
        target_num_replicas=len(replicas),
        running_replicas=replicas,
        total_num_requests=0.0,
        total_queued_requests=lambda: math.nan,
        aggregated_metrics=None,
        raw_metrics=lambda: raw,
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=8,
        policy_state=state or {},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=NOW,
        config=AutoscalingConfig(min_replicas=1, max_replicas=8),
    )
    return scale_by_deadline(context)


def report(waiting: float) -> dict[str, list[float]]:
    load = {"arrivals_per_s": 5.0, "late": 0.0, "due_s": 0.5, "batch_s": 0.02, "seconds_each": 0.02}
    return {"waiting": [math.nan, waiting], **{name: [value] for name, value in load.items()}}


@ON_IMPORT
def test_serve_is_told_what_replicas_have_reported():
    assert decide(report(0.0), report(0.0))[0] == 1
    assert decide(report(60.0), report(0.0))[0] > 2


@ON_IMPORT
def test_a_replica_whose_report_is_old_counts_as_one_that_reports_nothing():
    assert decide(report(0.0), report(0.0), age_s=60.0)[0] == 2
    assert decide(report(0.0), {})[0] == 2


@ON_IMPORT
def test_what_was_too_few_is_kept_in_serves_state():
    _, state = decide(report(60.0))
    assert state["num_replicas"] == 1
    # Serve has its own entries beside.
    assert decide(report(0.0), report(0.0), state={**state, "decision_counters": 0})[0] == 2


class Queue:
    """A replica with a queue before a device that takes 20 ms for a request."""

    def __init__(self):
        self.queue, self.jobs = RequestQueue(max_queue=1000), []

    def ask(self, num_requests: int) -> None:
        self.jobs += [self.queue.admit() for _ in range(num_requests)]
        self.queue.note_served(self.jobs[:1], 0.02)

    def answer(self) -> None:
        for job in self.jobs:
            self.queue.remove(job)

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self.queue.load


@ON_IMPORT
# The interval at which replicas report has no other name yet.
@pytest.mark.filterwarnings("ignore:The `metrics_interval_s` field:DeprecationWarning")
@pytest.mark.usefixtures("cluster_with_serve")
def test_serve_adds_a_replica_for_a_queue_and_removes_it_again():
    from ray import serve

    scaling = {
        "min_replicas": 1,
        "max_replicas": 2,
        "metrics_interval_s": 0.5,
        "look_back_period_s": 1.0,
        "upscale_delay_s": 0.5,
        "downscale_delay_s": 0.5,
        "policy": {"policy_function": POLICY},
    }
    deployment = serve.deployment(name="model", autoscaling_config=scaling, ray_actor_options={"num_cpus": 0.1})
    handle = serve.run(deployment(Queue).bind(), name="queue", route_prefix=None)
    assert num_running() == 1
    handle.ask.remote(200).result()
    wait_for_replicas(2)
    handle.broadcast("answer").results()
    wait_for_replicas(1)
    serve.delete("queue")


def num_running() -> int:
    from ray import serve

    states = serve.status().applications["queue"].deployments["model"].replica_states
    return sum(number for state, number in states.items() if state == "RUNNING")


def wait_for_replicas(num_replicas: int) -> None:
    deadline = time.monotonic() + 60
    while num_running() != num_replicas:
        assert time.monotonic() < deadline, f"{num_running()} replicas run"
        time.sleep(0.1)
