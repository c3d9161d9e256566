"""A session: what the server remembers of one robot between its requests, and the order that it keeps."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np

from vla_server_base.contract import Action, Observation, PolicyRequest, PolicySpec, Task
from vla_server_base.engine.device_thread import Prefetch
from vla_server_base.engine.engine import Engine
from vla_server_base.errors import ImageError, RequestError, Superseded, UnknownName
from vla_server_base.sessions.action_chunking import ActionPlan, ObservationWindow, RecedingHorizon, TemporalEnsemble
from vla_server_base.sessions.deadline import within_deadline

Execution = Literal["receding", "chunk", "ensemble"]
Scope = Literal["session", "episode", "request"]


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """How a session acts; fixed for an episode.

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
    Without either, `num_skipped` steps lie between it and the last. `deadline_ms` counts from the turn's arrival.
    `reset` begins a new episode with this turn. `sources` are, by camera, which of several cameras that the client
    sends together a picture is of: the group's name, and its own.

    `settings` are what it says of SessionSettings. What it leaves out is, by their `scope`, what the session has; what
    its episode has, the server's own where that begins with it; or the server's own.
    """

    observation: Observation
    task: Task
    sources: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    reset: bool = False
    seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    scope: Scope = "session"
    num_skipped: int = 0
    sequence: int | None = None
    obs_time: float | None = None
    deadline_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a turn is answered with.

    `action.action` is the one to execute now, in the session's format; `action.actions` are un-normalized, from this
    one on as far as it is known: the chunk, what is left of it, or with an ensemble this one alone. `step` and `seed`
    are what the noise followed from, `dataset` and `action_format` what the action was formed by. `asked_policy` is
    False where the action was queued already.
    """

    action: Action
    dataset: str | None = None
    action_format: str | None = None
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
    sources: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Of the first pictures of this episode."""


@dataclass(kw_only=True)
class Session:
    """One robot's session; all methods are called on the event loop. `defaults` are the server's settings.

    A newer turn supersedes an older one that is not answered yet; the same turn once more gets the same answer. Noise
    is a function of the seed and the step alone, so nothing that other sessions do changes an answer.
    """

    id: str
    settings: SessionSettings
    defaults: SessionSettings
    progress: Progress
    engine: Engine
    clock: Callable[[], float] = time.monotonic
    last_used: float = field(init=False)
    num_waiting: int = 0
    connection: str | None = None
    """The one that used it last, where that is known."""
    client: str = "-"
    """The network address that it was begun from."""
    counted_bytes: int = 0
    """What its pictures took when they were last counted, in this episode."""
    _answer: "asyncio.Future[Answer] | None" = None
    _work: "asyncio.Task[None] | None" = None
    _prefetch: Prefetch | None = None

    def __post_init__(self):
        self.last_used = self.clock()

    @property
    def num_bytes(self) -> int:
        """What its pictures take: of its window, and of its goal."""
        goals = self.progress.task.goal_images if self.progress.task else {}
        pictures = [*goals.values(), *(image for seen in self.progress.history.seen for image in seen.images.values())]
        return sum(picture.nbytes for picture in pictures)

    async def act(self, turn: Turn) -> Answer:
        """Return what to do now.

        Raises:
            Superseded: a newer turn has come, before this one or while it waited.
            RequestError, UnknownName: the turn's settings cannot be, or are not those of its episode.
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

    def reset(
        self, seed: int | None = None, settings: Mapping[str, Any] | None = None, scope: Scope = "session"
    ) -> None:
        """Begin a new episode; the seed stays unless there is a new one, and so do the session's settings.

        Raises:
            RequestError, UnknownName: the settings cannot be.
        """
        kept = self.settings if scope == "session" else self.defaults
        self._begin_episode(checked_settings(self.engine.spec, kept, settings or {}), seed)

    def continues(self, task: Task) -> bool:
        """Whether a turn with this task is one of the present episode."""
        current = self.progress.task
        return current is not None and (not self.settings.reset_on_new_task or same_task(current, task))

    def catch_up(self, settings: SessionSettings, progress: Progress) -> None:
        """Go on from what the session has come to at another server, if that is further than here."""
        here = self.progress
        if (progress.episode, progress.step) > (here.episode, here.step):
            self._supersede("the session went on at another server")
            self.settings, self.progress, self._answer = settings, progress, None

    def close(self) -> None:
        """Answer whoever waits, and forget what is being done."""
        self._supersede("the session was ended")

    def _begun(self, turn: Turn) -> "asyncio.Future[Answer]":
        """Put the turn in its place and return its answer to come."""
        age, progress = self._placed(turn), self.progress
        if age == 0:
            if self._answer is not None and not _failed(self._answer):
                return self._answer
            return self._asked(turn, progress.step - 1)
        observation = self._seen(turn)
        self._supersede("a newer observation of this session has come")
        progress.plan.skip(age)
        step = progress.step + age - 1
        progress.history.append(observation)
        progress.task, progress.step = turn.task, step + 1
        progress.sequence, progress.obs_time = turn.sequence, turn.obs_time
        return self._asked(turn, step)

    def _seen(self, turn: Turn) -> Observation:
        """Return what the episode's cameras see: for one that missed this frame, no other of its group stands in.

        Raises:
            ImageError: none of them is there.
        """
        sources, images = self.progress.sources, turn.observation.images
        others = {name: own for name, (group, own) in turn.sources.items() if _is_other(sources.get(name), group, own)}
        seen = {name: image for name, image in images.items() if name not in others}
        if not seen:
            began_with = ", ".join(sources[name][1] for name in others)
            raise ImageError(
                f"the only pictures are of {', '.join(others.values())}, and this episode began with {began_with}",
                hint="to change cameras, begin a new episode (reset)",
            )
        sources.update((name, source) for name, source in turn.sources.items() if name in seen)
        return replace(turn.observation, images=seen)

    def _placed(self, turn: Turn) -> int:
        """Begin an episode if the turn does; return how many steps it comes after the last: 0 for the same again."""
        progress = self.progress
        begins = turn.reset or not self.continues(turn.task)
        settings = self._settings_of(turn, begins)
        changes = self._changes(turn, settings)
        # Another program's, for all that is known of it: it counts its own steps.
        is_anew = turn.reset or (turn.scope == "request" and bool(changes))
        age = 1 if is_anew else self._age(turn)
        if is_anew or (begins and (changes or progress.task is not None)):
            order = (None, None) if is_anew else (progress.sequence, progress.obs_time)
            self._begin_episode(settings, turn.seed)
            progress.sequence, progress.obs_time = order
        elif changes:
            raise RequestError(
                f"{changes[0]} is asked for, in the middle of an episode of session '{self.id}'",
                hint="leave it out, begin a new episode with it (reset), or use another session_id",
            )
        return 1 if begins or is_anew else age

    def _settings_of(self, turn: Turn, begins: bool) -> SessionSettings:
        """Return what settings the turn's episode has.

        Where its episode begins with a reset that came before, they are what that said.
        """
        is_first = begins and (turn.reset or self.progress.task is not None)
        has_servers = turn.scope == "request" or (turn.scope == "episode" and is_first)
        return checked_settings(self.engine.spec, self.defaults if has_servers else self.settings, turn.settings)

    def _changes(self, turn: Turn, settings: SessionSettings) -> list[str]:
        """Say what a turn asks for that its session has not."""
        pairs = [
            (each.name, getattr(self.settings, each.name), getattr(settings, each.name)) for each in fields(settings)
        ]
        pairs.append(("seed", self.progress.seed, self.progress.seed if turn.seed is None else turn.seed))
        return [f"{name} {asked!r} instead of {has!r}" for name, has, asked in pairs if asked != has]

    def _begin_episode(self, settings: SessionSettings, seed: int | None) -> None:
        self._supersede("a new episode of this session has begun")
        progress = self.progress
        progress.history.reset()
        progress.plan.reset()
        if settings != self.settings:
            self.settings, progress.plan = settings, _new_plan(self.engine.spec, settings)
        progress.task, progress.step = None, 0
        self.counted_bytes = 0
        progress.episode += 1
        progress.sequence = progress.obs_time = None
        progress.sources = {}
        progress.seed = progress.seed if seed is None else seed
        self._answer = None

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
            return 1 + turn.num_skipped
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
        plan, seed, dataset = self.progress.plan, self.progress.seed, self.settings.dataset
        window = self.progress.history.window()
        how: dict[str, Any] = {"asked_policy": not plan.num_queued}
        if not plan.num_queued:
            request = PolicyRequest(window=window, task=turn.task, seed=seed, step=step, dataset=dataset)
            prediction = await self.engine.predict(request)
            plan.put(prediction.chunks[0])
            how |= {"queue_ms": prediction.queue_ms, "infer_ms": prediction.infer_ms}
        if plan.num_queued <= 1:  # the action of this turn: the next one asks the policy
            self._prefetch = self.engine.prefetch(
                PolicyRequest(window=window, task=turn.task, seed=seed, step=step + 1, dataset=dataset)
            )
        return self._answer_of(plan, turn, step, seed, **how)

    def _answer_of(self, plan: ActionPlan, turn: Turn, step: int, seed: int, **how: Any) -> Answer:
        settings = self.settings
        assert settings.action_format is not None, "a session has begun with one"
        action = self.engine.form_action(plan.ahead(), settings.dataset, settings.action_format)
        return Answer(
            action=action,
            dataset=settings.dataset,
            action_format=settings.action_format,
            step=step,
            seed=seed,
            sequence=turn.sequence,
            obs_time=turn.obs_time,
            **how,
        )

    def _supersede(self, why: str) -> None:
        if self._prefetch is not None:
            self._prefetch.cancel()
        if self._answer is not None and not self._answer.done():
            assert self._work is not None, "what is not answered is being worked on"
            self._work.cancel()
            _set_exception(self._answer, Superseded(why))


def checked_settings(spec: PolicySpec, settings: SessionSettings, given: Mapping[str, Any]) -> SessionSettings:
    """Return settings with those that are given, and with the policy's own dataset and format where they name none.

    Raises:
        RequestError: the policy's chunks are shorter than what is to be executed of each.
        UnknownName: there is no such dataset or format.
    """
    settings = replace(settings, **given)
    if not 1 <= settings.execution_horizon <= spec.horizon:
        raise RequestError(
            f"execution_horizon: {settings.execution_horizon} of a chunk are to be executed, which has {spec.horizon}"
        )
    dataset = _known("dataset", settings.dataset, spec.datasets, spec.default_dataset)
    formats = spec.actions_of(dataset).formats
    # A format that another dataset's actions had by default is nothing that was asked for.
    is_kept = "action_format" in given or settings.action_format in formats
    action_format = _known("action_format", settings.action_format if is_kept else None, formats, formats[0])
    return replace(settings, dataset=dataset, action_format=action_format)


def _known(what: str, given: str | None, known: tuple[str, ...], default: str | None) -> str | None:
    if given is not None and given not in known:
        raise UnknownName(what, given, known)
    return given or default


def new_progress(spec: PolicySpec, settings: SessionSettings, seed: int) -> Progress:
    """Return the progress of a session that has not begun."""
    plan = _new_plan(spec, settings)
    return Progress(seed=seed, history=ObservationWindow(spec.window), plan=plan)


def _new_plan(spec: PolicySpec, settings: SessionSettings) -> ActionPlan:
    if settings.execution == "ensemble":
        return TemporalEnsemble(spec.horizon, settings.ensemble_weight)
    return RecedingHorizon(settings.execution_horizon if settings.execution == "chunk" else 1)


def same_task(task: Task, other: Task) -> bool:
    """Whether two tasks ask for the same."""
    return task.instruction == other.instruction and (
        task.goal_images.keys() == other.goal_images.keys()
        and all(np.array_equal(image, other.goal_images[name]) for name, image in task.goal_images.items())
    )


def _is_other(source: tuple[str, str] | None, group: str, own: str) -> bool:
    return source is not None and source[0] == group and source[1] != own


def _failed(answer: "asyncio.Future[Answer]") -> bool:
    return answer.done() and answer.exception() is not None


def _set_exception(answer: "asyncio.Future[Answer]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
