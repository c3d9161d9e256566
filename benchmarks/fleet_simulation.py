"""A fleet in simulated time: robots, ingress replicas, session stores, and model replicas with the server's own queue.

A request goes: network, an ingress replica (read), a hop, a model replica's host (prepare), its queue and its device, a
hop back, two session stores (save), the ingress replica (write), network. Stations serve one request after the other;
the queue of a model replica is `RequestQueue` itself, by the simulation's clock.
"""

import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
import simpy
from robots import Asked, Beat

from vla_server_base.contract import PolicyInput
from vla_server_base.engine.batches import Prediction, RequestQueue
from vla_server_base.errors import VLAError
from vla_server_base.fairness.claims import NO_DEADLINE_S, Claim, Flow

Times = Sequence[float]
"""How long something takes [s]: one of these each time, drawn at random; a single one is constant."""

Process = Generator[simpy.Event, Any, Any]
MakeQueue = Callable[[Callable[[], float]], RequestQueue]
"""What makes the queue of a model replica, for a clock."""

NOTHING: Times = (0.0,)
NUM_COPIES = 2
"""How many session stores get a session's state."""
_SHORTEST_S = 1e-9
_INPUT = PolicyInput(observation={}, task={}, seed=0)
_ANSWER = Prediction(chunks=np.zeros((1, 1, 1), np.float32), queue_ms=0.0, infer_ms=0.0)


@dataclass(frozen=True, kw_only=True)
class Service:
    """How long each part of a request takes; a batch of n on the device `device_s` and n - 1 times `each_more_s`."""

    device_s: Times
    each_more_s: float = 0.0
    max_batch: int = 1
    read_s: Times = NOTHING
    write_s: Times = NOTHING
    prepare_s: Times = NOTHING
    hop_s: Times = NOTHING
    save_s: Times = NOTHING
    network_s: Times = NOTHING


@dataclass(frozen=True, kw_only=True)
class Replicas:
    """How many replicas there are of each kind; without stores no state is saved.

    `speed_beside` is for a server in one process on a small machine, of one replica: how fast its Python and its device
    are while both are busy, 1 if they do not disturb each other, 0.5 if they take turns.
    """

    models: int = 1
    ingresses: int = 1
    stores: int = 0
    speed_beside: float | None = None


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What came of each observation, and which part of the time each kind of station was busy."""

    asked: Sequence[Asked]
    busy: dict[str, float]


def own_queue(clock: Callable[[], float]) -> RequestQueue:
    """Return the queue of a server with default settings, but for the number that may wait."""
    return RequestQueue(max_queue=256, clock=clock)


def simulate(
    beats: Sequence[Beat],
    service: Service,
    replicas: Replicas,
    *,
    seconds: float,
    warm_up_s: float = 2.0,
    make_queue: MakeQueue = own_queue,
    tells_deadline: bool = True,
    model_of: Sequence[int] | None = None,
    seed: int = 0,
) -> Simulated:
    """Have robots act for so long; `model_of` has the model replica of each one, by default they take turns."""
    env, chance = simpy.Environment(), random.Random(seed)
    fleet = _Fleet(env, service, replicas, make_queue, chance)
    models = model_of or list(islice(cycle(range(replicas.models)), len(beats)))
    asked: list[Asked] = []
    for number, (beat, model) in enumerate(zip(beats, models, strict=True)):
        ingress = fleet.ingresses[number % replicas.ingresses]
        route = _Route(fleet=fleet, robot=number, ingress=ingress, model=fleet.models[model])
        env.process(_robot(env, route, beat, seconds, asked, tells_deadline))
    env.run(until=seconds)
    busy = fleet.busy(seconds)
    env.run(until=seconds + max(beat.period_s + beat.deadline_s for beat in beats))  # the last answers
    counted = sorted((each for each in asked if each.at_s >= warm_up_s), key=lambda each: each.at_s)
    return Simulated(asked=counted, busy=busy)


def _robot(
    env: simpy.Environment, route: "_Route", beat: Beat, seconds: float, asked: list[Asked], tells_deadline: bool
) -> Process:
    """Ask at each beat, or once the last answer is there; an observation older than a period is skipped.

    Follows `_Robot.act` of `robots.py`.
    """
    step = 0
    while (due_s := beat.phase_s + step * beat.period_s) < seconds:
        if env.now - due_s > beat.period_s:
            asked.append(Asked(at_s=due_s, robot=route.robot, came="skipped"))
        else:
            yield env.timeout(max(0.0, due_s - env.now))
            sent = env.now
            came = yield from route.ask(sent + beat.deadline_s if tells_deadline else None)
            asked.append(Asked(at_s=sent, robot=route.robot, came=came, latency_s=env.now - sent))
        step += 1


class _Processor:
    """What stations share; each is slower while another works."""

    def __init__(self, env: simpy.Environment, speed_beside: float):
        self._env, self._speed_beside = env, speed_beside
        self._num_working, self._changed = 0, env.event()

    def work(self, seconds: float) -> Process:
        """Take so long, or longer while others work."""
        self._change(1)
        while seconds > _SHORTEST_S:
            speed, began = self._speed_beside if self._num_working > 1 else 1.0, self._env.now
            yield self._env.timeout(seconds / speed) | self._changed
            seconds -= (self._env.now - began) * speed
        self._change(-1)

    def _change(self, num: int) -> None:
        self._num_working += num
        changed, self._changed = self._changed, self._env.event()
        changed.succeed()


class _Station:
    """Serves one after the other, in the order in which they come, and counts how long it is busy."""

    def __init__(self, env: simpy.Environment, processor: _Processor | None = None):
        self._env, self._turns, self._processor, self.busy_s = env, simpy.Resource(env), processor, 0.0

    def serve(self, seconds: float) -> Process:
        """Wait for a turn, and take so long."""
        if seconds:
            with self._turns.request() as turn:
                yield turn
                began = self._env.now
                if self._processor is None:
                    yield self._env.timeout(seconds)
                else:
                    yield from self._processor.work(seconds)
                self.busy_s += self._env.now - began


class _Fleet:
    """All replicas."""

    def __init__(
        self,
        env: simpy.Environment,
        service: Service,
        replicas: Replicas,
        make_queue: MakeQueue,
        chance: random.Random,
    ):
        self.env, self.service, self.draw = env, service, chance.choice
        processor = None if replicas.speed_beside is None else _Processor(env, replicas.speed_beside)
        self.ingresses = [_Station(env, processor) for _ in range(replicas.ingresses)]
        self.stores = [_Station(env, processor) for _ in range(replicas.stores)]
        self.models = [_Model(self, make_queue(lambda: env.now), processor) for _ in range(replicas.models)]

    def busy(self, seconds: float) -> dict[str, float]:
        """Return which part of the time each kind of station was busy."""
        stations = {
            "ingress": self.ingresses,
            "store": self.stores,
            "model's host": [model.host for model in self.models],
            "device": [model.device for model in self.models],
        }
        return {
            name: sum(each.busy_s for each in found) / len(found) / seconds for name, found in stations.items() if found
        }


class _Model:
    """A model replica: a host that prepares requests, the server's queue, and a device that takes batches from it."""

    def __init__(self, fleet: _Fleet, queue: RequestQueue, processor: _Processor | None):
        self._fleet, self._queue = fleet, queue
        self.host, self.device = _Station(fleet.env, processor), _Station(fleet.env, processor)
        self._work = fleet.env.event()
        fleet.env.process(self._run())

    def ask(self, claim: Claim) -> Process:
        """Have a request answered, and return "ok" or an error's code."""
        env, service = self._fleet.env, self._fleet.service
        try:
            job = self._queue.admit(claim)
        except VLAError as error:
            return error.code
        answered = env.event()
        job.answer.add_done_callback(lambda _: answered.succeed())
        yield from self.host.serve(self._fleet.draw(service.prepare_s))
        if self._queue.wants(job):
            self._queue.make_ready(job, _INPUT)
            if not self._work.triggered:
                self._work.succeed()
        if claim.deadline is not None:
            yield answered | env.timeout(max(0.0, claim.deadline - env.now))
            if not answered.triggered:  # as `within_deadline` does
                self._queue.remove(job)
                return "deadline_exceeded"
        else:
            yield answered
        error = job.answer.exception(0)
        return error.code if isinstance(error, VLAError) else "ok"

    def _run(self) -> Process:
        """Take batches and answer them, as the device thread does."""
        service = self._fleet.service
        while True:
            batch = self._queue.take_batch(service.max_batch)
            if not batch:
                self._work = self._fleet.env.event()
                yield self._work
                continue
            seconds = self._fleet.draw(service.device_s) + (len(batch) - 1) * service.each_more_s
            yield from self.device.serve(seconds)
            for job in batch:
                job.answer.set_result(_ANSWER)
            self._queue.note_served(batch, seconds)


@dataclass(frozen=True, kw_only=True)
class _Route:
    """Where a robot's requests go."""

    fleet: _Fleet
    robot: int
    ingress: _Station
    model: _Model

    def ask(self, deadline: float | None) -> Process:
        """Send a request and wait for its answer; return "ok" or an error's code."""
        env, service, draw = self.fleet.env, self.fleet.service, self.fleet.draw
        yield env.timeout(draw(service.network_s))
        yield from self.ingress.serve(draw(service.read_s))
        due_at = env.now + NO_DEADLINE_S
        claim = Claim(
            flow=Flow(f"robot {self.robot}", "-"),
            priority="robot",
            due_at=due_at if deadline is None else min(due_at, deadline),
            deadline=deadline,
        )
        yield env.timeout(draw(service.hop_s) / 2)
        came = yield from self.model.ask(claim)
        yield env.timeout(draw(service.hop_s) / 2)
        if came == "ok" and self.fleet.stores:
            num_stores = len(self.fleet.stores)
            chosen = [self.fleet.stores[(self.robot + copy) % num_stores] for copy in range(NUM_COPIES)]
            yield simpy.AllOf(env, [env.process(store.serve(draw(service.save_s))) for store in chosen])
        yield from self.ingress.serve(draw(service.write_s))
        yield env.timeout(draw(service.network_s))
        return came
