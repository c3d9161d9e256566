"""ControlLoop: a policy's chunks at the robot's rate, while the next one is asked for."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any, Optional, Union

import numpy as np

from vla_client import background
from vla_client.action_kinds import Kind, kinds_of
from vla_client.chunk_playback import ChunkPlayback
from vla_client.errors import PolicyError
from vla_client.loop_statistics import LoopCounts, LoopStatistics
from vla_client.policy import CONTINUED, Policy

logger = logging.getLogger(__name__)

Observe = Callable[[], Mapping[str, Any]]

_PASSING = {"deadline_exceeded", "superseded", "overloaded", "unavailable", "request_timeout"}
"""Codes of errors after which the next observation may be answered."""
_NUM_DELAYS = 10
"""Answers of which the slowest says how long the next one may take."""


@dataclass(frozen=True)
class _Asked:
    """A question that is on its way: the step of its observation, when it was asked, its answer to come."""

    step: int
    asked_at: float
    answer: "Future[dict[str, Any]]"


class ControlLoop:
    """Executes a policy's chunks at `rate_hz` while a thread asks for the next one, so that the robot never waits.

    `policy_hz` is the rate of the chunk's rows: the server's `control_hz` if it says so, else `rate_hz`. Between two
    rows, targets and velocities are interpolated, deltas are divided, and switches stay; `kinds` says which number is
    which where names and units do not (`vla_client.action_kinds`).

    The answer to the observation of step s that comes at step t is used from its row t - s on. Without a row left the
    robot holds still: targets stay, deltas and velocities are 0; `on_loss` may return another action, given the last.
    The loop keeps asking, with a new observation each time, and goes on with the first answer.

    By default the next chunk is asked for as soon as the last one has come; with `ask_below`, once fewer rows are left.
    An answer has as long as a chunk lasts, then a new observation is sent, on a new connection if necessary.

    While it is open, nothing else may use the policy. `close` joins its thread and leaves the policy open.

    Raises:
        ValueError: a rate is not above 0, or `policy_hz` above `rate_hz`; the policy's answers are too short; or the
            kinds of its numbers are not known.

    >>> with Policy(url) as policy, ControlLoop(policy, rate_hz=50, policy_hz=10) as loop:
    ...     loop.run(robot.observe, robot.act, num_ticks=1000)
    """

    def __init__(
        self,
        policy: Policy,
        *,
        rate_hz: float,
        policy_hz: Optional[float] = None,
        ask_below: Optional[int] = None,
        kinds: Optional[Union[Kind, Mapping[str, Kind]]] = None,
        on_loss: Optional[Callable[[np.ndarray], np.ndarray]] = None,
    ):
        metadata = policy.metadata
        self.rate_hz = rate_hz
        self.policy_hz = policy_hz or metadata.control_hz or rate_hz
        if not 0 < self.policy_hz <= rate_hz < math.inf:
            raise ValueError(
                f"rate_hz: expected at least the policy's rate, {self.policy_hz:g} Hz, got {rate_hz:g} Hz; "
                "raise rate_hz, or give the rate of the chunk's rows as policy_hz"
            )
        if metadata.action_horizon == 1:
            raise ValueError("this policy's answers are one action, which is over when it comes; use policy.act")
        if policy.execution in ("chunk", "ensemble"):
            raise ValueError(
                f"execution '{policy.execution}' answers with actions that are over before the next ones come; "
                "open the policy with execution='receding', 'aligned', 'blended' or 'rtc'"
            )
        self._policy = policy
        self._tick_steps = Fraction(self.policy_hz / rate_hz).limit_denominator(10_000_000)
        self._playback = ChunkPlayback(kinds_of(metadata.action_names, metadata.action_units, kinds), self._tick_steps)
        self._ask_below = ask_below
        self._on_loss = on_loss or self._playback.still
        self._lasts_ms = 1e3 * metadata.action_horizon / self.policy_hz
        self._asked: Optional[_Asked] = None
        self._begin_episode()

    @property
    def statistics(self) -> LoopStatistics:
        """What the loop has done since its episode began."""
        return self._counts.statistics()

    @property
    def step(self) -> int:
        """The policy's step that the last tick belongs to, -1 before the first tick."""
        return self._step

    @property
    def inference_delay(self) -> Optional[int]:
        """Steps that an answer may take: the most of the last ten; None before the first but one."""
        return max(self._delays) if self._delays else None

    def tick(self, observe: Observe) -> np.ndarray:
        """Wait until the next action is due and return it, (action_dim,).

        `observe` returns an observation as `Policy.infer` takes it. It is called when the policy is about to be asked,
        before the wait, so that a slow camera does not delay an action. The first tick of an episode waits for the
        first chunk, and the robot's clock starts with it. A tick that comes too late skips what is over.

        Raises:
            DeadlineExceeded, PolicyError: in the first tick; later the loop asks again, unless the request itself is
                refused.
            SessionLost, Unauthorized, Unreachable, ObservationError: see `Policy.infer`. The robot has got no action:
                hold it. The next tick goes on, after SessionLost only in a new episode (`reset`).
        """
        if self._last_action is None:
            self._wait_for_first_chunk(observe)
        else:
            self._take_answer((self._num_periods + 1) * self._tick_steps)
            if self._is_chunk_wanted:
                self._ask(observe(), self._step, min(self._policy.deadline_ms, self._lasts_ms))
            self._wait_until_due()
        position = self._num_periods * self._tick_steps
        self._is_first_tick_of_step, self._step = int(position) > self._step, int(position)
        self._take_answer(position)
        action = self._playback.action_at(position)
        self._counts.num_ticks += 1
        self._counts.num_held += action is None
        if action is None:
            assert self._last_action is not None, "the first chunk has a row for the first tick"
            action = self._on_loss(self._last_action)
        self._last_action = action
        return action

    def run(self, observe: Observe, act: Callable[[np.ndarray], Any], num_ticks: int) -> None:
        """Call `act` with the action of each of `num_ticks` ticks; `observe` and errors as in `tick`."""
        for _ in range(num_ticks):
            act(self.tick(observe))

    def reset(self, seed: Optional[int] = None) -> None:
        """Let the next tick start a new episode, of the policy too; None keeps the seed. Counts start again."""
        self.close()
        self._policy.reset(seed)
        self._begin_episode()

    def close(self) -> None:
        """Wait for the answer that is on its way, at most as long as a chunk lasts, and drop it."""
        if self._asked is not None:
            self._asked.answer.exception()
            self._asked = None

    def __enter__(self) -> "ControlLoop":
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def _begin_episode(self) -> None:
        self._counts = LoopCounts()
        self._playback.clear()
        self._last_action: Optional[np.ndarray] = None
        self._step, self._is_first_tick_of_step = -1, False
        self._num_periods = 0
        """Periods since the first tick."""
        self._started_at = self._ticked_at = 0.0
        self._delays: deque[int] = deque(maxlen=_NUM_DELAYS)

    def _wait_for_first_chunk(self, observe: Observe) -> None:
        self._sequence_of_step_0 = self._policy.sequence + 1
        # No deadline but the policy's: the server may compile the policy now.
        asked = self._ask(observe(), 0, self._policy.deadline_ms)
        asked.answer.exception()
        self._asked = None
        rows = asked.answer.result()["actions"]
        self._playback.put(0, rows, now=0)
        self._last_action, self._step = rows[0], 0
        self._started_at = self._ticked_at = time.monotonic()
        self._counts.latencies_s.append(self._started_at - asked.asked_at)

    @property
    def _is_chunk_wanted(self) -> bool:
        is_low = self._ask_below is None or self._playback.num_left(self._step) < self._ask_below
        return is_low and self._is_first_tick_of_step and self._asked is None

    def _ask(self, observation: Mapping[str, Any], step: int, deadline_ms: float) -> _Asked:
        policy, sequence, asked_at = self._policy, self._sequence_of_step_0 + step, time.monotonic()
        delay = self.inference_delay if policy.execution in CONTINUED else None
        answer = background.start(
            lambda: policy.infer(observation, deadline_ms=deadline_ms, sequence=sequence, inference_delay=delay)
        )
        self._asked = _Asked(step=step, asked_at=asked_at, answer=answer)
        self._counts.num_asked += 1
        return self._asked

    def _take_answer(self, position: Fraction) -> None:
        """Play the answer from `position` on if it has come."""
        asked = self._asked
        if asked is None or not asked.answer.done():
            return
        self._asked = None
        try:
            rows = asked.answer.result()["actions"]
        except PolicyError as error:
            if error.code not in _PASSING:
                raise
            self._counts.num_failed += 1
            logger.warning("no answer to the observation of step %s, asking again: %s", asked.step, error.message)
            return
        self._delays.append(math.ceil(position - asked.step))
        self._counts.latencies_s.append(time.monotonic() - asked.asked_at)
        self._counts.num_stale_rows += self._playback.put(asked.step, rows, now=int(position))

    def _wait_until_due(self) -> None:
        """Sleep until the next period begins; periods that are over are skipped."""
        next_due = self._started_at + (self._num_periods + 1) / self.rate_hz
        num_over = max(0, math.floor((time.monotonic() - next_due) * self.rate_hz))
        self._counts.num_late += num_over > 0
        self._counts.num_skipped += num_over
        self._num_periods += 1 + num_over
        time.sleep(max(0.0, self._started_at + self._num_periods / self.rate_hz - time.monotonic()))
        last, self._ticked_at = self._ticked_at, time.monotonic()
        self._counts.periods_s.append(self._ticked_at - last)
