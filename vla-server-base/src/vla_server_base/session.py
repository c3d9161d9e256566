"""A session: what the server remembers of one robot between its requests, and the order that it keeps."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np

from vla_server_base.contract import Action, Observation, PolicySpec, Task, VLAModelAdapter
from vla_server_base.control_loop import ActionPlan, ObservationWindow, RecedingHorizon, TemporalEnsemble
from vla_server_base.engine import Anticipation, Engine
from vla_server_base.errors import Late, RequestError, Superseded

Execution = Literal["receding", "chunk", "ensemble"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """How a session acts; fixed when it begins.

    `receding` asks the policy at every step, `chunk` after `execution_horizon` actions of each chunk, and `ensemble`
    averages what the last chunks say with `ensemble_weight` (`TemporalEnsemble`). None takes the policy's own
    `dataset` and `action_format` until the session begins.
    """

    execution: Execution = "receding"
    execution_horizon: int = 1
    ensemble_weight: float = 0.0
    dataset: str | None = None
    action_format: str | None = None
    reset_on_new_task: bool = True


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What a robot sends at one step.

    `sequence` counts the control steps; where it is left out, `obs_time` [s] of any clock orders observations.
    `deadline_ms` counts from the turn's arrival.
    """

    observation: Observation
    task: Task
    sequence: int | None = None
    obs_time: float | None = None
    deadline_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a turn is answered with.

    `action.action` is the one to execute now, in the session's format; `action.actions` are un-normalized, from this
    one on as far as it is known: the chunk, what is left of it, or with an ensemble this one alone. `step` and `seed`
    are what the noise followed from. `asked_policy` is False where the action was queued already.
    """

    action: Action
    step: int
    seed: int
    sequence: int | None
    obs_time: float | None
    asked_policy: bool
    queue_ms: float = 0.0
    infer_ms: float = 0.0


@dataclass(kw_only=True)
class Progress:
    """How far a session has come: all that changes in it, and all that a session token carries."""

    seed: int
    history: ObservationWindow
    plan: ActionPlan
    task: Task | None = None
    episode: int = 0
    """How many there were before this one."""
    step: int = 0
    """The next turn's, unless it skips some."""
    sequence: int | None = None
    obs_time: float | None = None


@dataclass(kw_only=True)
class Session:
    """One robot's session; all methods are called on the event loop.

    A newer turn supersedes an older one that is not answered yet; the same turn once more gets the same answer. Noise
    is a function of the seed and the step alone, so nothing that other sessions do changes an answer.
    """

    id: str
    settings: SessionSettings
    progress: Progress
    engine: Engine
    adapter: VLAModelAdapter
    clock: Callable[[], float] = time.monotonic
    last_used: float = field(init=False)
    num_waiting: int = 0
    _answer: "asyncio.Future[Answer] | None" = None
    _work: "asyncio.Task[None] | None" = None
    _anticipation: Anticipation | None = None

    def __post_init__(self):
        self.last_used = self.clock()

    async def act(self, turn: Turn) -> Answer:
        """Return what to do now.

        Raises:
            Superseded: a newer turn has come, before this one or while it waited.
            Late: the deadline passed first.
            Unavailable, RequestError: what `Engine.predict` says.
        """
        answer = self._begun(turn)
        self.num_waiting += 1
        try:
            # Not cancelled with this: a client whose connection broke asks once more, and the work is not lost. Nor
            # shielded, which from Python 3.14 on logs as an error how it ended for a client that is gone.
            await asyncio.wait([answer])
            return answer.result()
        finally:
            self.num_waiting -= 1
            self.last_used = self.clock()

    def reset(self, seed: int | None = None) -> None:
        """Begin a new episode; the seed stays unless there is a new one."""
        self._supersede("the session was reset")
        progress = self.progress
        progress.history.reset()
        progress.plan.reset()
        progress.task, progress.step = None, 0
        progress.episode += 1
        progress.sequence = progress.obs_time = None
        progress.seed = progress.seed if seed is None else seed
        self._answer = None

    def catch_up(self, progress: Progress) -> None:
        """Go on from what the session has come to at another server, if that is further than here."""
        here = self.progress
        if (progress.episode, progress.step) > (here.episode, here.step):
            self._supersede("the session went on at another server")
            self.progress, self._answer = progress, None

    def close(self) -> None:
        """Answer whoever waits, and forget what is being done."""
        self._supersede("the session was ended")

    def _begun(self, turn: Turn) -> "asyncio.Future[Answer]":
        """Put the turn in its place and return its answer to come."""
        age = self._age(turn)
        if age == 0:
            if self._answer is not None and not _failed(self._answer):
                return self._answer
            return self._asked(turn, self.progress.step - 1)
        self._supersede("a newer observation of this session has come")
        progress = self.progress
        if progress.task is not None and self.settings.reset_on_new_task and not _same(progress.task, turn.task):
            order = progress.sequence, progress.obs_time
            self.reset()
            progress.sequence, progress.obs_time = order
            age = 1
        progress.plan.skip(age)
        step = progress.step + age - 1
        progress.history.append(turn.observation)
        progress.task, progress.step = turn.task, step + 1
        progress.sequence, progress.obs_time = turn.sequence, turn.obs_time
        return self._asked(turn, step)

    def _age(self, turn: Turn) -> int:
        """Return how many steps a turn comes after the last: 0 for the same once more.

        Raises:
            Superseded: it is older.
        """
        progress = self.progress
        if turn.sequence is not None and progress.sequence is not None:
            age = turn.sequence - progress.sequence
            what, last = f"observation {turn.sequence}", progress.sequence
        elif turn.obs_time is not None and progress.obs_time is not None:
            age = int(np.sign(turn.obs_time - progress.obs_time))
            what, last = f"the observation of {turn.obs_time} s", progress.obs_time
        else:
            return 1
        if age < 0:
            raise Superseded(f"{what} is older than {last}, which this session has seen", hint="reset begins anew")
        return age

    def _asked(self, turn: Turn, step: int) -> "asyncio.Future[Answer]":
        self._answer = answer = asyncio.get_running_loop().create_future()
        # Marked as seen: where the client is gone, nobody awaits it.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._work = asyncio.ensure_future(self._answered(answer, turn, step))
        return answer

    async def _answered(self, answer: "asyncio.Future[Answer]", turn: Turn, step: int) -> None:
        try:
            found = await within_deadline(self._predicted(turn, step), turn.deadline_ms)
        except Exception as error:
            _set_exception(answer, error)
        else:
            if not answer.done():
                answer.set_result(found)

    async def _predicted(self, turn: Turn, step: int) -> Answer:
        plan, seed = self.progress.plan, self.progress.seed
        window = self.progress.history.window()
        how: dict[str, Any] = {"asked_policy": not plan.num_queued}
        if not plan.num_queued:
            prediction = await self.engine.predict(window, turn.task, seed, step)
            plan.put(prediction.chunks[0])
            how |= {"queue_ms": prediction.queue_ms, "infer_ms": prediction.infer_ms}
        if plan.num_queued <= 1:  # the action of this turn: the next one asks the policy
            self._anticipation = self.engine.anticipate(window, turn.task, seed, step + 1)
        return self._answer_of(plan, turn, step, seed, **how)

    def _answer_of(self, plan: ActionPlan, turn: Turn, step: int, seed: int, **how: Any) -> Answer:
        settings = self.settings
        assert settings.action_format is not None, "a session has begun with one"
        action = self.adapter.postprocess_action(plan.ahead(), settings.dataset, settings.action_format)
        return Answer(
            action=action,
            step=step,
            seed=seed,
            sequence=turn.sequence,
            obs_time=turn.obs_time,
            **how,
        )

    def _supersede(self, why: str) -> None:
        if self._anticipation is not None:
            self._anticipation.cancel()
        if self._answer is not None and not self._answer.done():
            assert self._work is not None, "what is not answered is being worked on"
            self._work.cancel()
            _set_exception(self._answer, Superseded(why))


async def within_deadline(work: Awaitable[T], deadline_ms: float | None) -> T:
    """Await work, and cancel it at its deadline.

    Raises:
        Late: that came first.
    """
    try:
        return await asyncio.wait_for(work, None if deadline_ms is None else deadline_ms / 1e3)
    except asyncio.TimeoutError as error:
        message = f"no answer within the deadline, {deadline_ms:.0f} ms from when the policy was to be asked"
        raise Late(message, hint="the next request is answered anew") from error


def new_progress(spec: PolicySpec, settings: SessionSettings, seed: int) -> Progress:
    """Return the progress of a session that has not begun.

    Raises:
        RequestError: the policy's chunks are shorter than what is to be executed of each.
    """
    if not 1 <= settings.execution_horizon <= spec.horizon:
        raise RequestError(
            f"execution_horizon: {settings.execution_horizon} of a chunk are to be executed, which has {spec.horizon}"
        )
    if settings.execution == "ensemble":
        plan = TemporalEnsemble(spec.horizon, settings.ensemble_weight)
    else:
        plan = RecedingHorizon(settings.execution_horizon if settings.execution == "chunk" else 1)
    return Progress(seed=seed, history=ObservationWindow(spec.window), plan=plan)


def _same(task: Task, other: Task) -> bool:
    return task.instruction == other.instruction and (
        task.goal_images.keys() == other.goal_images.keys()
        and all(np.array_equal(image, other.goal_images[name]) for name, image in task.goal_images.items())
    )


def _failed(answer: "asyncio.Future[Answer]") -> bool:
    return answer.done() and answer.exception() is not None


def _set_exception(answer: "asyncio.Future[Answer]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
