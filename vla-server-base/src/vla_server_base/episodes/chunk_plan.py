"""When the policy of an episode is asked, and what becomes of its chunks while it thinks."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vla_server_base.contract import PolicySpec, PreviousChunk, Task, Window
from vla_server_base.episodes.interfaces import EpisodePolicy, GuidedPolicy
from vla_server_base.episodes.settings import EpisodeSettings
from vla_server_base.errors import RequestError
from vla_server_base.sessions.action_chunking import ActionPlan, RecedingHorizon
from vla_server_base.sessions.continued_chunk import CONTINUED, continued, previous_chunk
from vla_server_base.sessions.settings import SessionSettings, checked_settings, default_settings, new_plan


@dataclass(frozen=True, kw_only=True)
class PlannedChunk:
    """A chunk as it will be executed, after the arm has held still for `hold_s`."""

    actions: Float[np.ndarray, "horizon 7"]
    hold_s: float


class ChunkPlan:
    """Asks an episode's policy for chunks, and says which action is next.

    While the policy thinks, the arm holds still (receding, chunk, ensemble) or executes the last chunk (rtc, aligned,
    blended): the observation is of one step, and the chunk arrives `latency_s` later, in whole steps, rounded up. As
    the new chunk begins with the old one's rows of that time, it is planned at once. Only the first chunk of a task has
    none to continue: the arm holds still until it comes.

    Raises:
        RequestError: the policy cannot do `execution`, or its chunks are over before the next one arrives.
    """

    def __init__(self, policy: EpisodePolicy, settings: EpisodeSettings):
        self._policy, self._settings = policy, settings
        self._chunks = check_plan(policy.spec, settings)
        self._is_continued = self._chunks.execution in CONTINUED
        self._guided = check_guidance(policy, self._chunks)
        self.forget()

    @property
    def num_queued(self) -> int:
        """How many actions are left before the policy is asked again."""
        return self._plan.num_queued

    async def ask(self, window: Window, task: Task, index: int) -> PlannedChunk:
        """Ask the policy for the chunk of a step, and plan it.

        Raises:
            Unavailable: the policy cannot answer now.
        """
        rest = self._plan.rest() if isinstance(self._plan, RecedingHorizon) else None
        chunk = await self._predict(window, task, index)
        if not self._is_continued or rest is None or not len(rest):
            self._plan.put(chunk)
            return PlannedChunk(actions=chunk, hold_s=self._settings.latency_s)
        chunk = self._continue(rest, chunk)
        self._plan.put(chunk)
        return PlannedChunk(actions=chunk, hold_s=0.0)

    def next_action(self) -> Float[np.ndarray, " 7"]:
        """Return the next action to execute."""
        self._rows.skip(1)
        return self._plan.next_action()

    def forget(self) -> None:
        """Drop all chunks: the task is another."""
        self._plan = self._new_plan()
        self._rows = RecedingHorizon(1)
        """The last chunk as the policy returned it, for guidance."""

    def _new_plan(self) -> ActionPlan:
        if self._is_continued:
            return RecedingHorizon(actions_per_chunk(self._policy.spec, self._settings))
        return new_plan(self._policy.spec, self._chunks)

    async def _predict(self, window: Window, task: Task, index: int) -> Float[np.ndarray, "horizon 7"]:
        seed = self._settings.seed
        if self._guided is None:
            return await self._policy.predict(window, task, seed, index)
        rest = self._rows.rest()
        previous = None if rest is None else self._previous(rest)
        chunk = await self._guided.predict_guided(window, task, seed, index, previous)
        self._rows.put(continued(chunk.rows, previous, "rtc"))
        return chunk.actions

    def _continue(
        self, rest: Float[np.ndarray, "rest 7"], chunk: Float[np.ndarray, "horizon 7"]
    ) -> Float[np.ndarray, "horizon 7"]:
        """Return the chunk after the actions that are executed until it arrives; the arm holds still without one."""
        chunk = continued(chunk, self._previous(rest), self._chunks.execution)
        until_it_arrives = slice(len(rest), steps_late(self._settings))
        chunk[until_it_arrives] = np.append(np.zeros(6), rest[-1, 6])
        return chunk

    def _previous(self, rest: Float[np.ndarray, "rest action_dim"]) -> PreviousChunk | None:
        return previous_chunk(rest, steps_late(self._settings), self._chunks.execution_horizon)


def check_plan(spec: PolicySpec, settings: EpisodeSettings) -> SessionSettings:
    """Return how an episode executes chunks: as `settings` say, and where they say nothing, as the policy's spec does.

    A horizon alone means `chunk`, a weight alone `ensemble`.

    Raises:
        RequestError: the policy cannot do it, its chunks are over before the next one arrives, or the settings are of
            several executions.
    """
    _check_combination(settings)
    execution = settings.execution
    if execution is None and settings.ensemble_weight is not None:
        execution = "ensemble"
    elif execution is None and settings.execution_horizon is not None:
        execution = "chunk"
    given = {
        "execution": execution,
        "execution_horizon": settings.execution_horizon,
        "ensemble_weight": settings.ensemble_weight,
    }
    defaults = default_settings(spec, reset_on_new_task=True, executes_chunks=False)
    chunks = checked_settings(spec, defaults, {name: value for name, value in given.items() if value is not None})
    if chunks.execution in CONTINUED and steps_late(settings) >= spec.horizon:
        raise RequestError(
            f"execution {chunks.execution}: a chunk of {spec.horizon} actions at {settings.control.rate_hz:g} Hz is"
            f" over before the next one arrives, {1e3 * settings.latency_s:g} ms after it was requested",
            hint="send a smaller latency_ms or control.rate_hz, or execution chunk, in which the arm waits",
        )
    return chunks


def _check_combination(settings: EpisodeSettings) -> None:
    if settings.ensemble_weight is not None and settings.execution not in (None, "ensemble"):
        raise RequestError(
            f"ensemble_weight: execution {settings.execution} averages no chunks",
            hint="leave ensemble_weight out, or choose execution ensemble",
        )
    one_at_a_time = "ensemble" if settings.ensemble_weight is not None else settings.execution
    if settings.execution_horizon not in (None, 1) and one_at_a_time in ("receding", "ensemble", "aligned"):
        raise RequestError(
            f"execution_horizon: it cannot be combined with execution {one_at_a_time}",
            hint="leave execution_horizon out, or choose execution chunk, rtc or blended",
        )


def actions_per_chunk(spec: PolicySpec, settings: EpisodeSettings) -> int:
    """Return how many actions of a chunk are executed before the policy is asked again."""
    chunks = check_plan(spec, settings)
    if chunks.execution in CONTINUED:
        return max(1, steps_late(settings))
    return chunks.execution_horizon if chunks.execution == "chunk" else 1


def steps_late(settings: EpisodeSettings) -> int:
    """Return how many control steps a chunk arrives after its observation."""
    # 0.3 s at 10 Hz are 3 steps, not 4.
    return math.ceil(round(settings.latency_s * settings.control.rate_hz, 6))


def check_guidance(policy: EpisodePolicy, chunks: SessionSettings) -> GuidedPolicy | None:
    """Return the policy whose chunks are guided towards the last one: with rtc; None without.

    Raises:
        RequestError: it cannot be guided from here.
    """
    if chunks.execution != "rtc":
        return None
    if not isinstance(policy, GuidedPolicy):
        raise RequestError(
            "execution rtc: the last chunk that guides the next one is known only where the policy runs, with its"
            " whole window",
            hint="choose aligned or blended, or play the episode on the server (POST /execute)",
        )
    return policy
