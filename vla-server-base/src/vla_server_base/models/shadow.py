"""A shadow: a model that predicts what another one has answered, while the device is idle, for people to compare."""

import asyncio
import logging
import random
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vla_server_base.contract import PolicyRequest
from vla_server_base.engine.engine import Engine
from vla_server_base.request_context import current_session

logger = logging.getLogger(__name__)

MAX_WAITING = 8
"""Answered requests that wait for the device to be idle; each holds a window of images."""
MAX_KEPT = 50
STALE_S = 10.0
"""A request that has waited this long is dropped."""
_POLL_S = 0.01


@dataclass(frozen=True, kw_only=True)
class ShadowStep:
    """One request that both models have answered: the largest difference of their first actions."""

    session: str
    step: int
    seed: int
    max_difference: float


@dataclass(frozen=True, eq=False, kw_only=True)
class _Answered:
    request: PolicyRequest
    engine: Engine
    chunk: Float[np.ndarray, "horizon action_dim"]
    session: str
    time: float


class Shadow:
    """Copies of answered requests, and how far the shadow's chunks are from the answers, in the actions' units.

    Methods are called on the event loop. A failure of the shadow is counted, and reaches no robot.
    """

    def __init__(self, engine: Engine, share: float, threshold: float):
        self._engine, self._share, self.threshold = engine, share, threshold
        self._waiting: deque[_Answered] = deque()
        self._has_come = asyncio.Event()
        self._times_s: deque[float] = deque(maxlen=16)
        self.num_compared = self.num_dropped = self.num_failed = self.num_over_threshold = 0
        self.last_failure: str | None = None
        self.last: deque[ShadowStep] = deque(maxlen=MAX_KEPT)
        self._sums: Float[np.ndarray, " action_dim"] | None = None
        self._largest: Float[np.ndarray, " action_dim"] | None = None
        self._names: tuple[str, ...] = ()
        self._random = random.Random(0)  # which requests are copied changes no answer
        engine.give_way(True)
        self._task = asyncio.create_task(self._compare_all())

    def offer(self, engine: Engine, request: PolicyRequest, chunk: Float[np.ndarray, "horizon action_dim"]) -> None:
        """Have a request compared that an engine has answered; in place of the oldest one, if too many wait."""
        if self._random.random() >= self._share:
            return
        if len(self._waiting) == MAX_WAITING:
            self._waiting.popleft()
            self.num_dropped += 1
        session = current_session.get()
        self._waiting.append(
            _Answered(request=request, engine=engine, chunk=chunk, session=session, time=time.monotonic())
        )
        self._has_come.set()

    def differences(self) -> dict[str, tuple[float, float]]:
        """Return the mean and the largest difference of each number of an action, over all compared chunks."""
        if self._sums is None or self._largest is None:
            return {}
        means = self._sums / self.num_compared
        return {
            name: (float(mean), float(largest))
            for name, mean, largest in zip(self._names, means, self._largest, strict=True)
        }

    def end(self) -> None:
        """Compare no more; what was compared stays."""
        self._task.cancel()
        self._waiting.clear()
        self._engine.give_way(False)

    async def _compare_all(self) -> None:
        while True:
            await self._has_come.wait()
            while self._waiting:
                if not self._engine.is_device_free_for(max(self._times_s, default=0.0)):
                    self._drop_stale()
                    await asyncio.sleep(_POLL_S)
                    continue
                await self._compare(self._waiting.popleft())
            self._has_come.clear()

    def _drop_stale(self) -> None:
        while self._waiting and time.monotonic() - self._waiting[0].time > STALE_S:
            self._waiting.popleft()
            self.num_dropped += 1

    async def _compare(self, answered: _Answered) -> None:
        token = current_session.set(answered.session)
        try:
            started = time.perf_counter()
            prediction = await self._engine.predict(answered.request)
            self._times_s.append(time.perf_counter() - started)
            names, difference = await asyncio.to_thread(self._difference, answered, prediction.chunks[0])
        except Exception as error:
            self.num_failed += 1
            self.last_failure = str(error)[:300]
            logger.info("the shadow model=%s failed on a copied request: %s", self._engine.id, error)
        else:
            self._add(answered, names, difference)
        finally:
            current_session.reset(token)

    def _difference(
        self, answered: _Answered, chunk: Float[np.ndarray, "horizon action_dim"]
    ) -> tuple[tuple[str, ...], Float[np.ndarray, "horizon action_dim"]]:
        spec, dataset = answered.engine.spec, answered.request.dataset
        actions = spec.actions[dataset]
        theirs = answered.engine.form_action(answered.chunk, dataset, actions.formats[0]).actions
        own = self._engine.form_action(chunk, dataset, actions.formats[0]).actions
        return actions.names, np.abs(own - theirs)

    def _add(
        self, answered: _Answered, names: tuple[str, ...], difference: Float[np.ndarray, "horizon action_dim"]
    ) -> None:
        if names != self._names:  # the actions of another dataset
            self._names, self._sums, self._largest = names, np.zeros(len(names)), np.zeros(len(names))
            self.num_compared = self.num_over_threshold = 0
        assert self._sums is not None, "it was set with the names"
        assert self._largest is not None, "it was set with the names"
        self.num_compared += 1
        self._sums = self._sums + difference.mean(0)
        self._largest = np.maximum(self._largest, difference.max(0))
        largest = float(difference.max())
        self.num_over_threshold += largest > self.threshold
        request = answered.request
        self.last.append(
            ShadowStep(session=answered.session, step=request.step, seed=request.seed, max_difference=largest)
        )
