"""GET /load: how busy the server is, for pages that ask several times a second."""

import dataclasses
import os
import time
from pathlib import Path

import numpy as np
from fastapi import APIRouter

from vla_server_base.schemas.base import ErrorReply
from vla_server_base.schemas.load import (
    CountLoad,
    EpisodeLoad,
    LoadReply,
    PredictTimes,
    QueueLoad,
    RecordingLoad,
    WorkerLoad,
)
from vla_server_base.server.service import CurrentService, Service
from vla_server_base.server.slots import Slots

_STATM = Path("/proc/self/statm")

router = APIRouter(responses={"default": {"model": ErrorReply, "description": "Any error"}})


@router.get("/load", summary="How busy the server is")
async def load(service: CurrentService) -> LoadReply:
    health, workers, config = service.health, service.pool.workers, service.config
    return LoadReply(
        status=health.status,
        reason=health.reason,
        model=service.model_id,
        uptime_s=round(time.monotonic() - service.started_at, 3),
        queue=QueueLoad(waiting=service.engine.num_waiting, max=config.max_queue),
        scene_workers=WorkerLoad(num=len(workers.all), busy=len(workers.busy), waiting=workers.num_waiting),
        episodes=EpisodeLoad(running=service.episodes.num_taken, max=service.episodes.num_slots),
        sessions=CountLoad(num=service.sessions.num_held, max=config.max_sessions),
        connections=_count(service.connections),
        watchers=service.watchers.num_taken,
        recording=RecordingLoad(**dataclasses.asdict(service.recorder.status)) if service.recorder else None,
        memory_mb=_resident_mb(),
        predict_ms=_predict_times(service),
    )


def _count(slots: Slots) -> CountLoad:
    return CountLoad(num=slots.num_taken, max=slots.num_slots)


def _predict_times(service: Service) -> PredictTimes | None:
    times_ms = service.engine.predict_ms
    if not times_ms:
        return None
    p50, p95 = np.percentile(times_ms, (50, 95))
    return PredictTimes(p50=round(float(p50), 3), p95=round(float(p95), 3))


def _resident_mb() -> float | None:
    try:
        return round(int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)
    except OSError:  # a system without /proc
        return None
