"""SessionsRecorder: takes the steps of sessions on the event loop, and writes them on a separate thread."""

import errno
import fnmatch
import logging
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from vla_server_base.config import ServerConfig
from vla_server_base.contract import Image
from vla_server_base.recordings.messages import (
    image_message,
    loss_message,
    refusal_message,
    state_message,
    step_message,
)
from vla_server_base.recordings.rotating_files import RotatingFiles, writer_class
from vla_server_base.sessions.recorded_step import RecordedStep, SessionRecorder

logger = logging.getLogger(__name__)

LossReason = Literal["behind", "stopped"]
"""Why a step is not recorded: steps came faster than they could be written, or recording had stopped."""

MAX_WAITING_STEPS = 1024
MAX_WAITING_BYTES = 128 * 2**20
"""Steps, and the images in them, that wait to be written; beyond it, steps are lost, and the file says so."""
_CLOSE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class RecordingStatus:
    """How recording goes; `reason` says why it stopped."""

    state: Literal["on", "stopped"]
    reason: str | None
    num_steps: int
    """Steps that are in the files, those that were refused included."""
    num_lost: int
    """Steps that are not."""
    num_files: int
    num_waiting: int


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What the thread writes: a step that was answered, or refused, and which steps were lost before it."""

    step: RecordedStep
    turn: int
    continues: bool
    lost: Mapping[str, int]


class SessionsRecorder:
    """Records the sessions that the server's settings choose. `add` and `of` are called on the event loop.

    A robot never waits for it and never gets an error from it. When it cannot write, recording stops, and `status` and
    one line of the log say why. `describe` returns what the server is, once its policy is loaded.
    """

    def __init__(self, config: ServerConfig, describe: Callable[[], Mapping[str, Any]]):
        self._folder = Path(config.record).expanduser()
        self._patterns = config.record_sessions.split() or ["*"]
        self._describe = describe
        self._files = RotatingFiles(self._folder, config.record_mb, config.record_file_mb)
        self._queue: queue.SimpleQueue[_Job | Mapping[str, int]] = queue.SimpleQueue()
        self._reason: str | None = None
        self._num_steps = self._num_waiting = self._waiting_bytes = 0
        self._num_lost: dict[LossReason, int] = {"behind": 0, "stopped": 0}
        self._lock = threading.Lock()  # a step is in one of the fields above: waiting, written or lost
        self._lost: Counter[str] = Counter()
        """Steps lost since the last one that was taken, by session: the file marks them."""
        self._goals: dict[str, Mapping[str, Image]] = {}
        """The goal images that the present file has, by session; of the thread."""
        self._thread = threading.Thread(target=self._run, name="vla-recording", daemon=True)
        self._thread.start()

    def of(self, session_id: str, client: str) -> "RecordedSession | None":
        """Return what records a session, if its id, or its client and its id, match a pattern."""
        names = (session_id, f"{client}/{session_id}")
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in self._patterns for name in names):
            return None
        return RecordedSession(self)

    @property
    def status(self) -> RecordingStatus:
        """How recording goes."""
        return RecordingStatus(
            state="on" if self._reason is None else "stopped",
            reason=self._reason,
            num_steps=self._num_steps,
            num_lost=sum(self._num_lost.values()),
            num_files=self._files.num_files,
            num_waiting=self._num_waiting,
        )

    @property
    def num_lost_by_reason(self) -> Mapping[LossReason, int]:
        """How many steps are not recorded."""
        return self._num_lost

    @property
    def num_bytes(self) -> int:
        """Size of all recordings in the folder, those of other servers as of when the present file was begun."""
        return self._files.num_bytes

    def add(self, step: RecordedStep, turn: int, *, continues: bool) -> bool:
        """Have a step written; return whether there was room for it."""
        size = _num_bytes(step)
        with self._lock:
            if self._reason is not None:
                self._num_lost["stopped"] += 1
                return False
            waiting_bytes = self._waiting_bytes + size
            if self._num_waiting >= MAX_WAITING_STEPS or (self._num_waiting and waiting_bytes > MAX_WAITING_BYTES):
                self._lost[step.session_id] += 1
                self._num_lost["behind"] += 1
                return False
            self._num_waiting, self._waiting_bytes = self._num_waiting + 1, waiting_bytes
            lost, self._lost = self._lost, Counter()
            self._queue.put(_Job(step=step, turn=turn, continues=continues, lost=lost))
        return True

    def close(self) -> None:
        """Write what waits, and end the file; not for the event loop."""
        self._queue.put(self._lost)
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self._folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self._files.measure()
            while isinstance(job := self._queue.get(), _Job):
                self._write(job)
            self._write_losses(job)
            self._files.flush()
            self._files.close()
        except OSError as error:
            self._stop(error.strerror or type(error).__name__)
        except Exception as error:
            logger.exception("recording failed")
            self._stop(type(error).__name__)

    def _stop(self, reason: str) -> None:
        with self._lock:
            self._reason = reason
            self._num_lost["stopped"] += self._num_waiting
            self._num_waiting = self._waiting_bytes = 0
        self._files.abandon()
        logger.error(
            "recording in %s has stopped after %d steps: %s; robots are served as before",
            self._folder,
            self._num_steps,
            reason,
        )
        while not self._queue.empty():  # references to images
            self._queue.get()

    def _write(self, job: _Job) -> None:
        step, files = job.step, self._files
        if files.is_new:
            self._goals = {}
            description = msgspec.json.encode(self._describe())
            files.write("/server", "vla.Server", description, time.time())
        self._write_losses(job.lost)
        if step.error is not None:
            self._put(job, "refused", "vla.Refusal", refusal_message(step))
        else:
            self._write_answered(job)
        files.flush()
        with self._lock:
            self._num_steps += 1
            self._num_waiting -= 1
            self._waiting_bytes -= _num_bytes(step)

    def _write_answered(self, job: _Job) -> None:
        step, is_first_in_file = job.step, job.step.session_id not in self._goals
        if not step.begins_episode and (is_first_in_file or not job.continues):
            self._put(job, "state", "vla.State", state_message(step))
        goals = step.request.task.goal_images
        if goals and (is_first_in_file or not _are_same(self._goals[step.session_id], goals)):
            for camera, image in goals.items():
                self._put_image(job, "goal", camera, image)
        self._goals[step.session_id] = goals
        for camera, image in step.observation.images.items():
            self._put_image(job, "images", camera, image)
        self._put(job, "step", "vla.Step", step_message(step, job.turn, continues=job.continues))

    def _put_image(self, job: _Job, kind: str, camera: str, image: Image) -> None:
        message = image_message(image, camera, job.step.time)
        self._put(job, f"{kind}/{camera}", "foxglove.CompressedImage", message, camera=camera)

    def _put(self, job: _Job, kind: str, schema: str, data: bytes, **metadata: str) -> None:
        session_id = job.step.session_id
        metadata = {"session": session_id, "kind": kind.partition("/")[0], **metadata}
        self._files.write(f"/{session_id}/{kind}", schema, data, job.step.time, job.turn, metadata)

    def _write_losses(self, lost: Mapping[str, int]) -> None:
        now = time.time()
        for session_id, num_steps in lost.items():
            metadata = {"session": session_id, "kind": "lost"}
            self._files.write(f"/{session_id}/lost", "vla.Loss", loss_message(num_steps, now), now, 0, metadata)


def check_recordable() -> None:
    """Refuse to record without the extra.

    Raises:
        ConfigError: it is not installed.
    """
    writer_class()


class RecordedSession(SessionRecorder):
    """Records one session; it notes whether a step follows from the one that was recorded before it."""

    def __init__(self, recorder: SessionsRecorder):
        self._recorder = recorder
        self._turn = 0
        self._last: tuple[int, int] | None = None
        """Episode and step of the session after the last recorded step."""

    def add(self, step: RecordedStep) -> None:
        """Take a step; it never raises and never waits."""
        before = (step.before["episode"], step.before["step"])
        continues = step.error is None and (step.begins_episode or self._last == before)
        is_added = self._recorder.add(step, self._turn, continues=continues)
        if step.result is not None and is_added:
            self._turn += 1
            self._last = (step.episode, step.result.step + 1)


def _num_bytes(step: RecordedStep) -> int:
    return sum(image.nbytes for image in step.observation.images.values())


def _are_same(goals: Mapping[str, Image], others: Mapping[str, Image]) -> bool:
    return goals.keys() == others.keys() and all(np.array_equal(goals[name], others[name]) for name in goals)
