"""The simulation of a fleet, against formulas of queueing theory, and by what must come out whatever happens."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from arrival_order import ArrivalOrder
from fleet_simulation import Replicas, Service, Simulated, own_queue, simulate
from robots import Beat, in_time

from vla_server_base.engine.batches import RequestQueue

SERVICE_S = 0.01
CHANCE = random.Random(1)
CONSTANT = (SERVICE_S,)
EXPONENTIAL = tuple(CHANCE.expovariate(1 / SERVICE_S) for _ in range(20_000))


def poisson(load: float, seconds: float) -> list[Beat]:
    """Robots that ask once each, at random times: the arrivals are a Poisson process."""
    chance = random.Random(2)
    number = round(load * seconds / SERVICE_S)
    return [Beat(period_s=2 * seconds, deadline_s=1e3, phase_s=chance.uniform(0, seconds)) for _ in range(number)]


def mean_waiting_s(simulated: Simulated, mean_service_s: float) -> float:
    return sum(each.latency_s for each in simulated.asked) / len(simulated.asked) - mean_service_s


def fifo(clock) -> RequestQueue:
    return RequestQueue(10_000, order=ArrivalOrder(), clock=clock)


@pytest.mark.parametrize(("device_s", "factor"), [(CONSTANT, 0.5), (EXPONENTIAL, 1.0)], ids=["M/D/1", "M/M/1"])
@pytest.mark.parametrize("load", [0.5, 0.7])
def test_requests_wait_as_long_as_queueing_theory_says(device_s, factor, load):
    """Pollaczek and Khinchine: load / (1 - load) service times, half of that where they are constant."""
    seconds = 100.0
    found = simulate(
        poisson(load, seconds),
        Service(device_s=device_s),
        Replicas(),
        seconds=seconds,
        make_queue=fifo,
        tells_deadline=False,
    )
    expected_s = factor * SERVICE_S * load / (1 - load)
    assert mean_waiting_s(found, SERVICE_S) == pytest.approx(expected_s, rel=0.12)
    assert found.busy["device"] == pytest.approx(load, rel=0.05)


def robots(load: float, number: int = 24) -> list[Beat]:
    chance = random.Random(3)
    period_s = number * SERVICE_S / load
    return [
        Beat(period_s=period_s, deadline_s=deadline, phase_s=chance.uniform(0, period_s))
        for deadline in [chance.choice((0.03, 0.06, 0.12)) for _ in range(number)]
    ]


def num_due(beats: Sequence[Beat], seconds: float) -> int:
    return sum(len([step for step in range(10_000) if each.phase_s + step * each.period_s < seconds]) for each in beats)


@pytest.mark.parametrize("load", [0.6, 1.5])
@pytest.mark.parametrize("max_queue", [4, 256])
@pytest.mark.parametrize("replicas", [Replicas(), Replicas(models=2, ingresses=3, stores=2)], ids=["one", "several"])
def test_every_observation_has_one_outcome(load, max_queue, replicas):
    beats = robots(load)
    service = Service(device_s=CONSTANT, read_s=(0.002,), write_s=(0.001,), save_s=(0.001,), hop_s=(0.001,))
    found = simulate(
        beats,
        service,
        replicas,
        seconds=5.0,
        warm_up_s=0.0,
        make_queue=lambda clock: RequestQueue(max_queue, clock=clock),
    )
    came = Counter(each.came for each in found.asked)
    assert came.total() == num_due(beats, 5.0)
    assert came.keys() <= {"ok", "deadline_exceeded", "overloaded", "skipped"}
    assert len(in_time(found.asked, beats)) <= came["ok"]
    assert all(0 <= part <= 1 + 1e-9 for part in found.busy.values())


def test_first_in_first_out_answers_in_the_order_in_which_they_were_asked():
    beats = robots(0.9)
    found = simulate(
        beats, Service(device_s=CONSTANT), Replicas(), seconds=10.0, make_queue=fifo, tells_deadline=False
    ).asked
    answered_at = [each.at_s + each.latency_s for each in found if each.came == "ok"]
    assert answered_at == sorted(answered_at)


def test_a_batch_takes_what_waits_and_its_time_grows_by_each_request():
    beats = [Beat(period_s=10.0, deadline_s=1.0, phase_s=phase) for phase in (1.0, 1.001, 1.002, 1.003)]
    service = Service(device_s=(0.1,), each_more_s=0.02, max_batch=2)
    found = simulate(beats, service, Replicas(), seconds=5.0, warm_up_s=0.0)
    ended = [each.at_s + each.latency_s for each in found.asked]
    assert ended == pytest.approx([1.1, 1.22, 1.22, 1.32])


def test_the_servers_own_order_answers_more_in_time_than_first_in_first_out():
    beats, service = robots(0.9), Service(device_s=CONSTANT)
    own, first = (
        simulate(beats, service, Replicas(), seconds=10.0, make_queue=make_queue) for make_queue in (own_queue, fifo)
    )
    assert len(in_time(own.asked, beats)) > len(in_time(first.asked, beats))


@pytest.mark.parametrize(
    ("speed", "seconds_each"),
    [(1.0, 0.006), (0.75, 0.006 + 0.004 / 3), (0.5, 0.010)],
    ids=["apart", "between", "turns"],
)
def test_python_and_the_device_slow_each_other_down(speed, seconds_each):
    """For each answer the device works alone for 2 ms, and for the rest together with Python."""
    beats = [Beat(period_s=0.02, deadline_s=10.0, phase_s=0.001 * number) for number in range(4)]
    service = Service(device_s=(0.006,), read_s=(0.003,), write_s=(0.001,))
    found = simulate(beats, service, Replicas(speed_beside=speed), seconds=8.0, tells_deadline=False)
    assert sum(each.came == "ok" for each in found.asked) / 6 == pytest.approx(1 / seconds_each, rel=0.03)
