"""/episodes: an episode that runs by itself while others read its events, steer it and end it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from vla_server_base.episodes.loop import Episode
from vla_server_base.episodes.policies import EnginePolicy
from vla_server_base.episodes.steering import Steering
from vla_server_base.schemas.base import ErrorReply
from vla_server_base.schemas.episode import (
    EpisodePatch,
    EpisodeReply,
    EpisodesReply,
    EpisodeStatusReply,
    SteeredEpisodeRequest,
)
from vla_server_base.schemas.execute_reply import StartEvent
from vla_server_base.server.event_stream import EVENT_STREAM, EVENTS, HEADERS, written
from vla_server_base.server.execute import execute_events
from vla_server_base.server.http_body import read_json, read_request, reply_json
from vla_server_base.server.in_flight import unless_disconnected
from vla_server_base.server.openapi import EPISODE_EXAMPLES, PATCH_EXAMPLES, json_body, request_body
from vla_server_base.server.service import CurrentService, Service
from vla_server_base.server.steered_episode import SteeredEpisode

router = APIRouter(responses={"default": {"model": ErrorReply, "description": "Any error"}})


@router.post(
    "/episodes",
    summary="Begin an episode that can be watched and steered",
    status_code=201,
    responses={201: {"model": EpisodeReply}},
    response_class=Response,
    openapi_extra=request_body(SteeredEpisodeRequest, EPISODE_EXAMPLES),
)
async def begin(request: Request) -> Response:
    service: Service = request.app.state.service
    inputs, scene = await read_request(request, service, SteeredEpisodeRequest)
    assert scene is not None, "an episode has a scene: the body requires it"
    assert inputs.engine is not None, "it was read for a model"
    policy = EnginePolicy(inputs.engine, inputs.dataset)
    episode = Episode(policy, service, scene, inputs.task, inputs.settings)
    steering = Steering(episode, pace=inputs.pace, is_paused=inputs.is_paused)
    events = execute_events(service, inputs, scene, policy.dataset, steering.play())
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(aclosing(events))
        start = await unless_disconnected(request, anext(events))
        assert isinstance(start, StartEvent), "an episode starts"
        steered = await service.steered.begin(steering, start, events, written)
        stack.pop_all()
    reply = EpisodeReply(episode_id=steered.id, status=steering.status, pace=steering.pace, start=start)
    return Response(await asyncio.to_thread(reply_json, reply), 201, media_type="application/json")


@router.get("/episodes", summary="The episodes that run or are still kept")
async def episodes(service: CurrentService) -> EpisodesReply:
    return EpisodesReply(episodes=list(service.steered.statuses()), max_episodes=service.config.max_episodes)


@router.get("/episodes/{episode_id}", summary="Where an episode is")
async def status(episode_id: str, service: CurrentService) -> EpisodeStatusReply:
    return service.steered.get(episode_id).status()


@router.get(
    "/episodes/{episode_id}/events",
    summary="An episode's events from its start, and on until its end",
    response_class=StreamingResponse,
    responses={200: {"content": EVENTS}},
)
async def events(
    request: Request,
    episode_id: str,
    service: CurrentService,
    after: Annotated[int | None, Query(ge=-1, description="Only events behind the one of this id")] = None,
    last_event_id: Annotated[int | None, Header(ge=-1, description="The same, as browsers send it")] = None,
) -> StreamingResponse:
    steered = service.steered.get(episode_id)
    number = after if after is not None else last_event_id
    stream = _followed(request, steered, -1 if number is None else number)
    return StreamingResponse(stream, headers=HEADERS, media_type=EVENT_STREAM)


@router.patch(
    "/episodes/{episode_id}",
    summary="Pause, step, go on with, change or stop an episode, before its next step",
    openapi_extra=json_body(EpisodePatch, PATCH_EXAMPLES),
)
async def steer(request: Request, episode_id: str, service: CurrentService) -> EpisodeStatusReply:
    steered = service.steered.get(episode_id)
    patch = await read_json(request, service, EpisodePatch)
    await steered.steer(patch.to_core(steered.spec))
    return steered.status()


@router.delete("/episodes/{episode_id}", summary="End an episode and forget it")
async def end(episode_id: str, service: CurrentService) -> EpisodeStatusReply:
    return await service.steered.end(episode_id)


async def _followed(request: Request, steered: SteeredEpisode, after: int) -> AsyncIterator[bytes]:
    with steered.read(after) as events:
        async with aclosing(events):
            while True:
                try:
                    event = await unless_disconnected(request, anext(events))
                except StopAsyncIteration:
                    return
                yield event
