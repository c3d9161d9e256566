"""What GET /load answers: how busy a server is."""

from typing import Literal

from vla_server_base.schemas.base import Reply


class QueueLoad(Reply):
    """Requests that wait for the device, preprocessing included."""

    waiting: int
    max: int


class WorkerLoad(Reply):
    """The processes that compile, simulate and render scenes."""

    num: int
    busy: int
    waiting: int
    """Requests that wait for one."""


class EpisodeLoad(Reply):
    """Episodes that run now."""

    running: int
    max: int


class CountLoad(Reply):
    """How many there are, and may be."""

    num: int
    max: int


class PredictTimes(Reply):
    """Milliseconds of the last 200 predictions: preprocessing, waiting for the device, and on the device."""

    p50: float
    p95: float


class RecordingLoad(Reply):
    """How the recording of sessions goes."""

    state: Literal["on", "stopped"]
    reason: str | None
    """Why it stopped."""
    num_steps: int
    """Steps in the recordings since the server began."""
    num_lost: int
    """Steps that the recordings lack: they came faster than they could be written, or after recording had stopped."""
    num_files: int
    """Files begun since then."""
    num_waiting: int
    """Steps that wait to be written."""


class LoadReply(Reply):
    """How busy a server is."""

    status: Literal["healthy", "loading", "broken", "stopping"]
    """As GET /health has it."""
    reason: str | None = None
    """Why it does not answer."""
    model: str
    uptime_s: float
    queue: QueueLoad
    scene_workers: WorkerLoad
    episodes: EpisodeLoad
    sessions: CountLoad
    connections: CountLoad
    """WebSockets that are open."""
    watchers: int
    """Who watches sessions now."""
    recording: RecordingLoad | None
    """Null where nothing is recorded."""
    memory_mb: float | None
    """Resident memory of the server's process, without its scene workers; null where the system does not tell."""
    predict_ms: PredictTimes | None
    """Null before the first prediction."""
