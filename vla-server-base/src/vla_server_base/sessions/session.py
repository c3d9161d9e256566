"""A session: what the server remembers of one robot between its requests, and the order that it keeps."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vla_server_base.contract import Observation, PolicyRequest, PreviousChunk
from vla_server_base.engine.batches import Prediction
from vla_server_base.engine.engine import Engine
from vla_server_base.engine.prefetch import Prefetch
from vla_server_base.errors import RequestError, SessionGone, Superseded
from vla_server_base.request_context import current_request_id
from vla_server_base.request_inputs import check_observation
from vla_server_base.sessions.action_chunking import RecedingHorizon
from vla_server_base.sessions.answered_steps import AnsweredStep, AnsweredSteps
from vla_server_base.sessions.content import progress_content
from vla_server_base.sessions.continued_chunk import CONTINUED, check_continues, continued, previous_chunk
from vla_server_base.sessions.deadline import within_deadline
from vla_server_base.sessions.pace import Pace
from vla_server_base.sessions.progress import SessionProgress
from vla_server_base.sessions.recorded_step import RecordedStep, SessionRecorder
from vla_server_base.sessions.requests import SettingsScope, StepRequest, StepResult
from vla_server_base.sessions.settings import SessionSettings, checked_settings, differences, new_plan
from vla_server_base.sessions.shared_copy import ContinuedElsewhere, SharedCopy
from vla_server_base.sessions.shared_state import SharedState

_MAX_COUNTED_STEPS = 1000


@dataclass(kw_only=True)
class Session:
    """One robot's session; all methods are called on the event loop. `defaults` are the server's settings.

    A newer request supersedes an older one that has no result yet; the same request again gets the same result. Noise
    is a function of the seed and the step alone, so nothing that other sessions do changes a result.
    """

    id: str
    settings: SessionSettings
    defaults: SessionSettings
    progress: SessionProgress
    engine: Engine
    clock: Callable[[], float] = time.monotonic
    last_used: float = field(init=False)
    num_waiting: int = 0
    connection: str | None = None
    """The connection that used it last, if known."""
    client: str = "-"
    """Who began it: a key, or a network address."""
    owner: str = ""
    """The name of the key that began it, which alone may use it; empty where the server has no keys."""
    protocol: str = "-"
    """The protocol of the request that began it."""
    answered: AnsweredSteps = field(default_factory=AnsweredSteps)
    recorder: SessionRecorder | None = None
    """Takes every step, and every refusal; None where nothing is recorded."""
    shared: SharedCopy | None = None
    """Saves what each step comes to, for other servers; None where no other server can go on with the session."""
    counted_bytes: int = 0
    """The size of its images when they were last counted, in this episode."""
    _pace: Pace = field(default_factory=Pace)
    _result: "asyncio.Future[StepResult] | None" = None
    _work: "asyncio.Task[None] | None" = None
    _prefetch: Prefetch | None = None
    _computed: StepResult | None = None
    """The result of the last step, also where it could not be saved."""

    def __post_init__(self):
        self.last_used = self.clock()

    async def step(self, request: StepRequest) -> StepResult:
        """Return what to do now.

        Raises:
            Superseded: a newer request has come, before this one or while it waited.
            RequestError, UnknownName: the request's settings are invalid, or not those of its episode.
            DeadlinePassed: the deadline passed first.
            Unavailable, RequestError: see `Engine.predict`.
            ContinuedElsewhere: another server that shares the session went on with it first.
            SessionGone: the store has lost the session, and this copy of it may be out of date.
        """
        if self.recorder is None:
            return await self._step(request, None)
        before, started = progress_content(self.progress), time.perf_counter()
        try:
            return await self._step(request, before)
        except ContinuedElsewhere:
            raise  # the step is not refused by this
        except Exception as error:
            self._record(request, request.observation, before, started, error=error)
            raise

    async def _step(self, request: StepRequest, before: Mapping[str, Any] | None) -> StepResult:
        result = self._begin(request, before)
        self.num_waiting += 1
        try:
            # Not cancelled with this: a client whose connection broke asks once more, and the work is not lost. Nor
            # shielded, which from Python 3.14 on logs as an error how it ended for a client that is gone.
            await asyncio.wait([result])
            return result.result()
        finally:
            self.num_waiting -= 1
            self.last_used = self.clock()

    def reset(
        self, seed: int | None = None, settings: Mapping[str, Any] | None = None, scope: SettingsScope = "session"
    ) -> None:
        """Begin a new episode; the seed and the session's settings stay unless there are new ones.

        Raises:
            RequestError, UnknownName: the settings are invalid.
        """
        base = self.settings if scope == "session" else self.defaults
        self._begin_episode(checked_settings(self.engine.spec, base, settings or {}), seed)

    def catch_up(self, settings: SessionSettings, progress: SessionProgress) -> None:
        """Go on from what the session has come to at another server, if that is further than here."""
        if (progress.episode, progress.step) > (self.progress.episode, self.progress.step):
            self._supersede("the session continued on another server")
            self.settings, self.progress, self._result = settings, progress, None
            self._computed = None

    def take_over(self, state: SharedState) -> None:
        """Go on from what the session has come to at another server that shares it; a step that waits follows that."""
        self._interrupt(ContinuedElsewhere())
        self.settings, self.defaults, self.progress = state.settings, state.defaults, state.progress
        self._pace.begin_episode()
        self.counted_bytes = 0
        self._result = self._computed = None
        if state.result is not None:
            self._result = asyncio.get_running_loop().create_future()
            self._result.set_result(state.result)

    async def save(self, result: StepResult | None = None) -> None:
        """Have other servers go on from here; `result` is what the last step is answered with.

        Raises:
            ContinuedElsewhere, Superseded, Unavailable: see `SharedCopy.save`.
        """
        assert self.shared is not None, "a session that no other server can go on with is not saved"
        state = SharedState(
            settings=self.settings,
            defaults=self.defaults,
            progress=self.progress,
            client=self.client,
            protocol=self.protocol,
            result=result,
        )
        # Read before anything is awaited: the next request changes it.
        await self.shared.save(state.content(self.shared.model), self.progress.num_image_bytes)

    def close(self) -> None:
        """Answer the request that waits, cancel its work, and tell the watchers."""
        self._supersede("the session was ended")
        self.answered.end()

    def _begin(self, request: StepRequest, before: Mapping[str, Any] | None) -> "asyncio.Future[StepResult]":
        """Put the request in its place in the episode and return its future result."""
        if self.shared is not None and self.shared.is_in_doubt:
            self._check_follows(request)
        age, progress = self._place(request), self.progress
        if age == 0:
            if self._result is not None and not (self._result.done() and self._result.exception()):
                return self._result
            return self._start(request, progress.step - 1, before)
        observation = progress.visible(request)
        check_observation(observation, self.engine.spec)
        self._supersede("a newer observation of this session has come")
        if age > 1:
            # A counter of a client's may jump by any number.
            self.engine.monitor.steps_dropped("skipped", min(age - 1, _MAX_COUNTED_STEPS))
        self._computed = None
        return self._start(request, progress.advance(request, observation, age), before)

    def _check_follows(self, request: StepRequest) -> None:
        """Refuse a step if other servers may have come further, unless its number says that none has.

        Raises:
            SessionGone: nobody knows what the robot has seen.
        """
        if not (request.reset or self.progress.is_certainly_next(request)):
            raise SessionGone(
                f"the session store has lost the session '{self.id}', and this server's copy of it may be out of date",
                hint="begin a new episode (reset), send session_token, or number the steps (sequence)",
            )

    def _place(self, request: StepRequest) -> int:
        """Begin an episode if the request does; return how many steps it comes after the last one."""
        progress = self.progress
        has_new_task = request.reset or not progress.continues(request.task, self.settings.reset_on_new_task)
        settings = self._settings_of(request, has_new_task)
        changes = self._changes(request, settings)
        # With other settings a request that states them all is another program's, which counts its own steps.
        restarts = request.reset or (request.scope == "request" and bool(changes))
        age = 1 if restarts else progress.age(request)
        if restarts or (has_new_task and (changes or progress.task is not None)):
            order = (None, None) if restarts else (progress.sequence, progress.obs_time)
            self._begin_episode(settings, request.seed)
            progress.sequence, progress.obs_time = order
        elif changes:
            raise RequestError(
                f"{changes[0]} is requested within an episode of session '{self.id}'",
                hint="leave it out, begin a new episode with it (reset), or use another session_id",
            )
        return 1 if has_new_task or restarts else age

    def _settings_of(self, request: StepRequest, has_new_task: bool) -> SessionSettings:
        """Return the settings of the request's episode: those of the reset, where the episode began with one."""
        is_first = has_new_task and (request.reset or self.progress.task is not None)
        uses_defaults = request.scope == "request" or (request.scope == "episode" and is_first)
        settings = self.defaults if uses_defaults else self.settings
        settings = checked_settings(self.engine.spec, settings, request.settings)
        check_continues(settings.execution, request.inference_delay)
        return settings

    def _changes(self, request: StepRequest, settings: SessionSettings) -> list[str]:
        """Return what a request asks for that its session does not have, in words."""
        seed = self.progress.seed
        is_other_seed = request.seed is not None and request.seed != seed
        seed_change = [f"seed {request.seed!r} instead of {seed!r}"] if is_other_seed else []
        return differences(self.settings, settings) + seed_change

    def _begin_episode(self, settings: SessionSettings, seed: int | None) -> None:
        self._supersede("a new episode of this session has begun")
        self.progress.begin_episode(seed)
        self._pace.begin_episode()
        if settings != self.settings:
            self.settings, self.progress.plan = settings, new_plan(self.engine.spec, settings)
        self.counted_bytes = 0
        self.answered.last = None
        self._result = self._computed = None

    def _start(self, request: StepRequest, step: int, before: Mapping[str, Any] | None) -> "asyncio.Future[StepResult]":
        self._pace.arrived(step, self.clock())
        self._result = result = asyncio.get_running_loop().create_future()
        # Marks an exception as retrieved: where the client is gone, nobody awaits the result.
        result.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._work = asyncio.ensure_future(self._complete(result, request, step, before))
        return result

    async def _complete(
        self,
        result: "asyncio.Future[StepResult]",
        request: StepRequest,
        step: int,
        before: Mapping[str, Any] | None,
    ) -> None:
        started, observation = time.perf_counter(), self.progress.history.seen[-1]
        try:
            if self.shared is None:
                outcome = await within_deadline(self._predict(request, step), request.deadline_ms)
            else:
                outcome = await self._predict_and_save(request, step)
        except Exception as error:
            _set_exception(result, error)
        else:
            if not result.done():
                result.set_result(outcome)
                self._note_answered(request, observation, outcome, 1e3 * (time.perf_counter() - started))
                if before is not None:
                    self._record(request, observation, before, started, result=outcome)

    async def _predict_and_save(self, request: StepRequest, step: int) -> StepResult:
        """Form the result, and save where the session is then, before anyone gets it.

        A step that fails is saved as well: its observation stays in the window. What could not be saved is not computed
        again, or an ensemble would have the same chunk twice.
        """
        if self._computed is None:
            try:
                self._computed = await within_deadline(self._predict(request, step), request.deadline_ms)
            except Exception:
                await self.save()
                raise
        await self.save(self._computed)
        return self._computed

    def _note_answered(
        self, request: StepRequest, observation: Observation, result: StepResult, total_ms: float
    ) -> None:
        step = AnsweredStep(
            observation=observation,
            instruction=request.task.instruction,
            result=result,
            total_ms=total_ms,
            time=time.time(),
        )
        self.answered.add(step, self.clock())
        self.engine.monitor.step_answered(total_ms / 1e3)
        self._pace.answered(total_ms / 1e3)

    def _record(
        self,
        request: StepRequest,
        observation: Observation,
        before: Mapping[str, Any],
        started: float,
        *,
        result: StepResult | None = None,
        error: Exception | None = None,
    ) -> None:
        assert self.recorder is not None, "the caller has checked it"
        step = RecordedStep(
            session_id=f"{self.owner}/{self.id}" if self.owner else self.id,
            client=self.client,
            protocol=self.protocol,
            request_id=current_request_id.get(),
            request=request,
            observation=observation,
            before=before,
            settings=self.settings,
            episode=self.progress.episode,
            result=result,
            error=error,
            total_ms=1e3 * (time.perf_counter() - started),
            time=time.time(),
        )
        self.recorder.add(step)

    async def _predict(self, request: StepRequest, step: int) -> StepResult:
        plan, seed, dataset = self.progress.plan, self.progress.seed, self.settings.dataset
        window, prediction, previous = self.progress.history.window(), None, None
        policy_request = PolicyRequest(window=window, task=request.task, seed=seed, step=step, dataset=dataset)
        if not plan.num_queued:
            previous = self._previous(request)
            guide = previous if self.settings.execution == "rtc" else None
            prediction = await self.engine.predict(replace(policy_request, previous=guide))
            plan.put(continued(prediction.chunks[0], previous, self.settings.execution))
        if plan.num_queued <= 1:  # the action of this step: the next one asks the policy
            self._prefetch = self.engine.prefetch(replace(policy_request, step=step + 1))
        return self._result_of(request, step, seed, prediction, previous)

    def _previous(self, request: StepRequest) -> PreviousChunk | None:
        """Return what the chunk of a request has to continue."""
        plan, progress, settings = self.progress.plan, self.progress, self.settings
        rest = plan.rest() if isinstance(plan, RecedingHorizon) and settings.execution in CONTINUED else None
        if rest is None:
            return None
        delay = request.inference_delay
        if delay is None:
            measured = self._pace.inference_delay(settings.control_hz or self.engine.spec.control_hz)
            if measured is not None:
                progress.inference_delay = measured
            delay = progress.inference_delay
        return previous_chunk(rest, delay, settings.execution_horizon)

    def _result_of(
        self,
        request: StepRequest,
        step: int,
        seed: int,
        prediction: Prediction | None,
        previous: PreviousChunk | None,
    ) -> StepResult:
        """Form the next action; `prediction` is None if it was queued already."""
        settings = self.settings
        assert settings.action_format is not None, "a session has begun with one"
        plan = self.progress.plan
        return StepResult(
            action=self.engine.form_action(plan.remaining(), settings.dataset, settings.action_format),
            dataset=settings.dataset,
            action_format=settings.action_format,
            session_id=self.id,
            step=step,
            seed=seed,
            sequence=request.sequence,
            obs_time=request.obs_time,
            asked_policy=prediction is not None,
            inference_delay=_inference_delay(settings, previous) if prediction else None,
            queue_ms=prediction.queue_ms if prediction else 0.0,
            infer_ms=prediction.infer_ms if prediction else 0.0,
            model=self.engine.id,
            spec=self.engine.spec,
        )

    def _supersede(self, why: str) -> None:
        if self._interrupt(Superseded(why, hint="send the newest observation")):
            self.engine.monitor.steps_dropped("superseded")

    def _interrupt(self, error: Superseded) -> bool:
        """Answer the step that waits with an error, and cancel its work; return whether there was one."""
        if self._prefetch is not None:
            self._prefetch.cancel()
        if self._result is None or self._result.done():
            return False
        assert self._work is not None, "a result to come is being worked on"
        self._work.cancel()
        _set_exception(self._result, error)
        return True


def _inference_delay(settings: SessionSettings, previous: PreviousChunk | None) -> int | None:
    if settings.execution not in CONTINUED:
        return None
    return 0 if previous is None else previous.inference_delay


def _set_exception(result: "asyncio.Future[StepResult]", error: Exception) -> None:
    if not result.done():
        result.set_exception(error)
