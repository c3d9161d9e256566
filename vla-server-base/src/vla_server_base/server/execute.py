"""POST /execute: from the parsed request to an episode's events, or to one reply that gathers them."""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter, Request, Response

from vla_server_base.contract import PolicySpec
from vla_server_base.episodes.chunk_plan import actions_per_chunk
from vla_server_base.episodes.events import EpisodeChange, EpisodeEvent, EpisodeStart, EpisodeStep
from vla_server_base.episodes.loop import play
from vla_server_base.episodes.policies import EnginePolicy
from vla_server_base.episodes.recorder import Recorder
from vla_server_base.episodes.settings import EpisodeSettings
from vla_server_base.errors import RequestError
from vla_server_base.scenes.messages import Scene, SimulationState, num_pose_frames
from vla_server_base.schemas.base import ErrorReply
from vla_server_base.schemas.episode_events import change_event, end_event, start_event, step_event
from vla_server_base.schemas.execute import ExecuteRequest
from vla_server_base.schemas.execute_reply import ChangeEvent, EndEvent, ExecuteReply, StartEvent, StateReply, StepEvent
from vla_server_base.schemas.inputs import ExecuteInputs
from vla_server_base.server.event_stream import EVENT_STREAM, EVENTS, stream_response
from vla_server_base.server.http_body import read_request, reply_json
from vla_server_base.server.in_flight import unless_disconnected
from vla_server_base.server.openapi import EXECUTE_EXAMPLES, request_body
from vla_server_base.server.service import Service

ExecuteEvent = StartEvent | StepEvent | ChangeEvent | EndEvent

MAX_KEPT_NUMBERS = 2_000_000
"""Of the states and body poses of one episode that is kept whole, for a reply or a state log: 40 MB as JSON."""

router = APIRouter(responses={"default": {"model": ErrorReply, "description": "Any error"}})


@router.post(
    "/execute",
    summary="Run a whole episode: see, predict, control and advance the physics, again and again",
    responses={
        200: {
            "model": ExecuteReply,
            "content": EVENTS,
            "description": "The episode; as a stream of events where the client accepts text/event-stream",
        }
    },
    response_class=Response,
    openapi_extra=request_body(ExecuteRequest, EXECUTE_EXAMPLES),
)
async def execute(request: Request) -> Response:
    service: Service = request.app.state.service
    inputs, scene = await read_request(request, service, ExecuteRequest)
    assert scene is not None, "an episode has a scene: the body requires it"
    assert inputs.engine is not None, "it was read for a model"
    policy = EnginePolicy(inputs.engine, inputs.dataset)
    playing = play(policy, service, scene, inputs.task, inputs.settings)
    events = execute_events(service, inputs, scene, policy.dataset, playing)
    if EVENT_STREAM in request.headers.get("accept", ""):
        return await stream_response(request, events)
    work = gather_reply(inputs, events)
    return Response(await unless_disconnected(request, work), media_type="application/json")


async def execute_events(
    service: Service,
    inputs: ExecuteInputs,
    scene: Scene,
    dataset: str | None,
    playing: AsyncGenerator[EpisodeEvent, None],
) -> AsyncGenerator[ExecuteEvent, None]:
    """Turn an episode that is being played into its events; its start is the first, before which most errors come.

    Raises:
        RequestError: the states of the episode are more than are kept.
        SceneError, UnknownName, EpisodeTooLong, Unavailable: see `episodes.play`.
    """
    recorder, engine = Recorder(scene, inputs.task, inputs.settings, inputs.record), inputs.engine
    assert engine is not None, "it was read for a model"
    await service.steered.make_room()
    with service.episodes.take(), engine.in_use():
        async with aclosing(playing):
            async for event in playing:
                recorder.add(event)
                if isinstance(event, EpisodeStart):
                    service.scenes.put(scene)
                    if "state_log" in inputs.record:
                        _check_kept(_numbers_of_states(inputs.settings, event.state))
                    frames, seed = inputs.frames, inputs.settings.seed
                    notes = (*inputs.notes, *event.notes)
                    start = await asyncio.to_thread(start_event, event, frames, seed, scene.key, dataset, notes)
                    start.model, start.weights = engine.id, engine.spec.weights
                    if unknown := engine.unknown_words(inputs.task):
                        start.unknown_words = list(unknown)
                    yield start
                elif isinstance(event, EpisodeStep):
                    yield await asyncio.to_thread(step_event, event, inputs.frames)
                elif isinstance(event, EpisodeChange):
                    yield await asyncio.to_thread(change_event, event, inputs.frames)
                else:
                    yield end_event(event, await asyncio.to_thread(recorder.recordings))


def _check_kept(num_numbers: int) -> None:
    if num_numbers > MAX_KEPT_NUMBERS:
        raise RequestError(
            f"the states and body poses of this episode would be {num_numbers} numbers,"
            f" at most {MAX_KEPT_NUMBERS} are kept",
            hint="send fewer max_steps, a smaller scene, poses: false, or Accept: text/event-stream",
        )


def _numbers_of_states(settings: EpisodeSettings, state: SimulationState | StateReply) -> int:
    return settings.max_steps * (len(state.qpos) + len(state.qvel) + len(state.ctrl))


def _numbers_of_poses(settings: EpisodeSettings, num_bodies: int, spec: PolicySpec) -> int:
    """Return how many numbers the poses of an episode have: those of its steps, and of the previews of chunks."""
    num_chunks = math.ceil(settings.max_steps / actions_per_chunk(spec, settings))
    frames, hold_frames = num_pose_frames(1 / settings.control.rate_hz), num_pose_frames(settings.latency_s)
    total = settings.max_steps * frames + num_chunks * hold_frames
    if settings.preview or settings.guard != "off":
        total += num_chunks * (spec.horizon * frames + hold_frames)
    return 7 * num_bodies * total


async def gather_reply(inputs: ExecuteInputs, events: AsyncIterator[ExecuteEvent]) -> bytes:
    """Run an episode to its end and return it as one JSON reply."""
    start, end = None, None
    steps: list[StepEvent] = []
    async for event in events:
        if isinstance(event, StartEvent):
            settings, num_bodies = inputs.settings, len(event.pose_bodies or ())
            assert inputs.engine is not None, "it was read for a model"
            poses = _numbers_of_poses(settings, num_bodies, inputs.engine.spec)
            _check_kept(_numbers_of_states(settings, event.state) + poses)
            start = event
        elif isinstance(event, StepEvent):
            steps.append(event)
        elif isinstance(event, EndEvent):
            end = event
    assert start is not None, "an episode starts"
    assert end is not None, "an episode ends"
    return await asyncio.to_thread(_reply, start, steps, end)


def _reply(start: StartEvent, steps: list[StepEvent], end: EndEvent) -> bytes:
    reply = ExecuteReply(
        actions=[step.action for step in steps],
        states=[step.state for step in steps],
        initial_state=start.state,
        initial_poses=start.poses,
        initial_criteria=start.criteria,
        steps=list(steps),
        **start.model_dump(exclude={"state", "poses", "criteria", "images"}, exclude_unset=True),
        **end.model_dump(include={"reason", "success", "duration_ms", "rejected", "recordings"}),
    )
    return reply_json(reply)
