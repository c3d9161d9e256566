"""One POST /execute: an episode from the parsed body to events, and the events gathered into one reply."""

import asyncio
import base64
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Literal

from vla_server_base.contract import Image
from vla_server_base.episodes.events import EpisodeEnd, EpisodeStart, EpisodeStep
from vla_server_base.episodes.loop import play
from vla_server_base.episodes.policies import EnginePolicy
from vla_server_base.episodes.recording import animated_webp, state_log
from vla_server_base.errors import RequestError
from vla_server_base.scenes.messages import Pictures, Scene, SimulationState
from vla_server_base.schemas.execute import ExecuteRequest, settings_from_body
from vla_server_base.schemas.execute_reply import (
    EndEvent,
    ExecuteReply,
    StartEvent,
    StateReply,
    StepEvent,
    end_event,
    start_event,
    step_event,
)
from vla_server_base.schemas.task import assignment_from_body, task_from_assignment
from vla_server_base.server.service import Service

ExecuteEvent = StartEvent | StepEvent | EndEvent

MAX_KEPT_NUMBERS = 2_000_000
"""Of the states of one episode that is kept whole, for a reply or a state log: 40 MB as JSON."""

MAX_KEPT_PICTURES = 300
"""Of one animation: 45 MB until it is encoded."""


async def execute_events(
    service: Service, body: ExecuteRequest, scene: Scene, request_id: str
) -> AsyncGenerator[ExecuteEvent, None]:
    """Run the episode that `body` asks for; its start is the first event, before which most errors come.

    Raises:
        RequestError: the policy cannot answer this, or its actions cannot drive an arm.
        SceneError, UnknownName, EpisodeTooLong, Unavailable: see `episodes.play`.
    """
    spec = service.engine.spec
    assignment = assignment_from_body(body, spec, service.config.default_instruction)
    if body.execution_horizon > spec.horizon:
        raise RequestError(f"execution_horizon: {body.execution_horizon} is over this policy's horizon, {spec.horizon}")
    policy = EnginePolicy(service.engine, assignment.dataset)
    seed = secrets.randbelow(2**32) if body.seed is None else body.seed
    settings = settings_from_body(body, seed, spec)
    settings = replace(settings, max_worker_s=service.config.episode_worker_s)
    max_pixels, fit = service.config.max_image_pixels, service.engine.fit_image
    task = await asyncio.to_thread(task_from_assignment, assignment, max_pixels, fit)
    recorder = _Recorder(scene=scene, rate_hz=settings.control.rate_hz, kinds=body.record)
    with_frames = body.frames == "jpeg"
    if "webp" in body.record and body.max_steps > MAX_KEPT_PICTURES:
        raise RequestError(
            f"record: an animation is of at most {MAX_KEPT_PICTURES} steps, max_steps is {body.max_steps}"
        )
    with service.episodes.take():
        async for event in play(policy, service, scene, task, settings):
            recorder.add(event)
            if isinstance(event, EpisodeStart):
                service.scenes.remember(scene)
                if "state_log" in body.record:
                    _check_kept(body, event.state)
                images = event.pictures if with_frames else None
                start = await asyncio.to_thread(
                    start_event, event, images, seed, scene.key, request_id, policy.dataset, assignment.notes
                )
                if unknown := service.engine.unknown_words(task):
                    start.unknown_words = list(unknown)
                yield start
            elif isinstance(event, EpisodeStep):
                yield await asyncio.to_thread(step_event, event, event.pictures if with_frames else None)
            else:
                yield end_event(event, await asyncio.to_thread(recorder.recordings))


def _check_kept(body: ExecuteRequest, state: SimulationState | StateReply) -> None:
    kept = body.max_steps * (len(state.qpos) + len(state.qvel) + len(state.ctrl))
    if kept > MAX_KEPT_NUMBERS:
        raise RequestError(
            f"the states of this episode would be {kept} numbers, at most {MAX_KEPT_NUMBERS} are kept",
            hint="fewer max_steps, a smaller scene, or a stream: Accept: text/event-stream",
        )


async def gather_reply(service: Service, body: ExecuteRequest, events: AsyncIterator[ExecuteEvent]) -> bytes:
    """Run an episode to its end and return it as one JSON reply."""
    start, end = None, None
    steps: list[StepEvent] = []
    async for event in events:
        if isinstance(event, StartEvent):
            _check_kept(body, event.state)
            start = event
        elif isinstance(event, StepEvent):
            steps.append(event)
        else:
            end = event
    assert start is not None, "an episode starts"
    assert end is not None, "an episode ends"
    return await asyncio.to_thread(_reply, service, start, steps, end)


def _reply(service: Service, start: StartEvent, steps: list[StepEvent], end: EndEvent) -> bytes:
    spec = service.engine.spec
    reply = ExecuteReply(
        actions=[step.action for step in steps],
        states=[step.state for step in steps],
        initial_state=start.state,
        steps=list(steps),
        model=service.model_id,
        weights=spec.weights,
        **start.model_dump(exclude={"state", "images"}, exclude_unset=True),
        **end.model_dump(include={"reason", "success", "duration_ms", "rejected", "recordings"}),
    )
    return reply.to_json()


@dataclass(kw_only=True)
class _Recorder:
    """Keeps what the recordings that were asked for are made of."""

    scene: Scene
    rate_hz: float
    kinds: tuple[Literal["webp", "state_log"], ...]
    frames: list[Image] = field(default_factory=list)
    states: list[SimulationState] = field(default_factory=list)

    def add(self, event: EpisodeStart | EpisodeStep | EpisodeEnd) -> None:
        if isinstance(event, EpisodeStart):
            self._keep(event.state, event.pictures)
        elif isinstance(event, EpisodeStep):
            self._keep(event.result.state, event.pictures)

    def _keep(self, state: SimulationState, pictures: Pictures | None) -> None:
        if "state_log" in self.kinds:
            self.states.append(state)
        if "webp" in self.kinds and pictures is not None:
            self.frames.append(next(iter(pictures.images.values())))

    def recordings(self) -> dict[str, str]:
        made = {}
        if self.frames:
            made["webp"] = base64.b64encode(animated_webp(self.frames, self.rate_hz)).decode("ascii")
        if self.states:
            made["state_log"] = state_log(self.scene.xml, self.states)
        return made
