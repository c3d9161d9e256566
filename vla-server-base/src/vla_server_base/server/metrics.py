"""GET /metrics: what Prometheus reads, the counts of `monitoring/metrics.py` and the state of the server now."""

import asyncio
import platform
from collections.abc import Iterator
from typing import get_args

from fastapi import APIRouter, Request, Response
from prometheus_client.core import Metric

from vla_server_base import __version__
from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicySpec
from vla_server_base.engine.engine import Engine
from vla_server_base.engine.loading import ModelState
from vla_server_base.errors import ModelUnavailable
from vla_server_base.monitoring.metrics import counter, gauge
from vla_server_base.recordings.recorder import SessionsRecorder
from vla_server_base.schemas.base import ErrorReply
from vla_server_base.server.service import CurrentService, Service

router = APIRouter(responses={"default": {"model": ErrorReply, "description": "Any error"}})


@router.get(
    "/metrics",
    summary="Counts, times and state, for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request, service: CurrentService) -> Response:
    accept = request.headers.get("accept", "")
    # The state changes on the event loop, so it is read on it; to write the text takes milliseconds.
    families = list(state_of(service))
    content, content_type = await asyncio.get_running_loop().run_in_executor(
        service.scraping, service.metrics.exposition, accept, families
    )
    return Response(content, headers={"Content-Type": content_type})


def state_of(service: Service) -> Iterator[Metric]:
    """Read the present state; takes less than a millisecond."""
    yield gauge("vla_ready", "Whether GET /health answers healthy.", {(): service.health.status == "healthy"})
    yield gauge("vla_build_info", "The server.", {(__version__, platform.python_version()): 1}, "version", "python")
    yield from _models(service)
    yield from _limited(service)
    yield from _scenes(service)
    yield from _stores(service)
    if service.recorder is not None:
        yield from _recording(service.recorder, service.config)


def _engines(service: Service) -> dict[str, Engine]:
    return service.models.engines.by_id


def _models(service: Service) -> Iterator[Metric]:
    engines = _engines(service)
    states = {
        (model, state): engine.status.state == state
        for model, engine in engines.items()
        for state in get_args(ModelState)
    }
    yield gauge("vla_model_state", "1 for the state that the model is in.", states, "model", "state")
    specs = {model: spec for model, engine in engines.items() if (spec := _spec_of(engine)) is not None}
    about = {(model, spec.weights, spec.revision or "", spec.platform): 1 for model, spec in specs.items()}
    yield gauge("vla_model_info", "The models that are loaded.", about, "model", "weights", "revision", "platform")
    waiting = {
        (model, priority): num
        for model, engine in engines.items()
        for priority, num in engine.num_waiting_by_class.items()
    }
    text = "Requests that wait for the device, preprocessing included."
    yield gauge("vla_queue_length", text, waiting, "model", "class")
    limits = {(model,): service.config.max_queue for model in engines}
    yield gauge("vla_queue_limit", "Requests that may wait for the device.", limits, "model")
    lookups = {
        (model, cache, result): num
        for model, engine in engines.items()
        for cache, each in engine.cache_lookups.items()
        for result, num in (("hit", each.hits), ("miss", each.misses))
    }
    yield counter("vla_cache_lookups", "Lookups in the caches of a model.", lookups, "model", "cache", "result")


def _spec_of(engine: Engine) -> PolicySpec | None:
    try:
        return engine.spec
    except ModelUnavailable:
        return None


def _limited(service: Service) -> Iterator[Metric]:
    config = service.config
    for name, text, num, limit in (
        ("vla_sessions", "Sessions that are held", service.sessions.num_held, config.max_sessions),
        ("vla_websockets", "WebSockets that are open", service.connections.num_taken, service.connections.num_slots),
        ("vla_watchers", "Streams of sessions that are open", service.watchers.num_taken, service.watchers.num_slots),
        ("vla_episodes", "Episodes that run", service.episodes.num_taken, service.episodes.num_slots),
        ("vla_sockets", "Connections over TCP that are open", service.traffic.num_open, config.max_sockets),
    ):
        yield gauge(name, f"{text}.", {(): num})
        yield gauge(f"{name}_limit", f"{text}, at most.", {(): limit})


def _scenes(service: Service) -> Iterator[Metric]:
    workers = service.pool.workers
    num_busy = len(workers.busy)
    states = {("busy",): num_busy, ("idle",): len(workers.all) - num_busy}
    yield gauge("vla_scene_workers", "Scene workers.", states, "state")
    yield gauge("vla_scene_workers_limit", "Scene workers that may be busy.", {(): service.config.scene_workers})
    yield gauge("vla_scene_queue_length", "Requests that wait for a scene worker.", {(): workers.num_waiting})
    memory = sum(worker.resident_bytes for worker in workers.all)
    yield gauge("vla_scene_worker_memory_bytes", "Resident memory of all scene workers.", {(): memory})


def _stores(service: Service) -> Iterator[Metric]:
    config = service.config
    stores = {
        "assets": (service.assets.contents, config.asset_store_mb),
        "scenes": (service.scenes.contents, config.scene_store_mb),
        "geometries": (service.geometries.contents, config.geometry_store_mb),
    }
    sizes = {(name,): contents.num_bytes for name, (contents, _) in stores.items()}
    yield gauge("vla_store_bytes", "The size of what a store keeps.", sizes, "store")
    limits = {(name,): limit_mb * 2**20 for name, (_, limit_mb) in stores.items()}
    yield gauge("vla_store_limit_bytes", "The largest size of a store.", limits, "store")
    lookups = {
        (name, result): num
        for name, (contents, _) in stores.items()
        for result, num in (("hit", contents.lookups.hits), ("miss", contents.lookups.misses))
    }
    yield counter("vla_store_lookups", "Lookups in a store.", lookups, "store", "result")


def _recording(recorder: SessionsRecorder, config: ServerConfig) -> Iterator[Metric]:
    yield counter("vla_recorded_steps", "Steps of sessions in the recordings.", {(): recorder.status.num_steps})
    lost = {(reason,): num for reason, num in recorder.num_lost_by_reason.items()}
    yield counter("vla_unrecorded_steps", "Steps of sessions that the recordings lack.", lost, "reason")
    yield gauge("vla_recording_bytes", "The size of all recordings in the folder.", {(): recorder.num_bytes})
    limit = config.record_mb * 2**20
    yield gauge("vla_recording_limit_bytes", "The largest size of all recordings in the folder.", {(): limit})
