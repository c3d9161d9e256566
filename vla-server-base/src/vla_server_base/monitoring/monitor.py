"""Monitor: what the parts of a server report to, wherever it goes from there."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType

from vla_server_base.errors import VLAError
from vla_server_base.monitoring.metrics import Metrics

_CLIENT_GONE = 499
"""As nginx counts requests whose client went away before the answer."""


current_request: ContextVar["RunningRequest | None"] = ContextVar("current_request", default=None)
"""The request that this task works on; tasks and threads of one request share it."""


class Monitor:
    """What one app's parts report to; all methods may be called on any thread."""

    def __init__(self) -> None:
        self.metrics = Metrics()

    def begin_request(self, route: str) -> "RunningRequest":
        """Begin to measure a request or a message; `route` is one of our own words, never a client's."""
        request = RunningRequest(self, route)
        current_request.set(request)
        return request

    def note_step(self, session: str | None, step: int, seed: int, model: str) -> None:
        """Say which step of which session the current request is."""
        request = current_request.get()
        if request is not None:
            request.session = session

    def scene_job(self, compile_ms: float, physics_ms: float, render_ms: float) -> None:
        """Report what a scene worker did in a job; what took no time was not asked for, or cached."""
        for stage, ms in (("compile", compile_ms), ("physics", physics_ms), ("render", render_ms)):
            if ms:
                self.stage(stage, ms / 1e3)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Report a `with` block as a part of the current request, unless it fails."""
        started = time.perf_counter()
        yield
        self.stage(stage, time.perf_counter() - started)

    def stage(self, stage: str, seconds: float) -> None:
        """Report a part of the current request that has just ended."""
        self.metrics.stage(stage, seconds)


class RunningRequest:
    """A request from its arrival to its reply: `end` it once, or use it in a `with` block."""

    def __init__(self, monitor: Monitor, route: str):
        self._monitor = monitor
        self.route = route
        self.seconds = 0.0
        """How long it took, once it has ended."""
        self._started = time.perf_counter()
        self.session: str | None = None
        """The session of which it is a step, once that is known."""
        self.refusal: VLAError | None = None
        """The error that the client gets, if it gets one."""
        self._has_ended = False

    def __enter__(self) -> "RunningRequest":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(200 if error is None else _CLIENT_GONE)

    def refuse(self, error: VLAError) -> None:
        """Count it as refused."""
        self.refusal = error
        self.end(error.status)

    def end(self, status: int) -> None:
        """Count it, with the status of its refusal if it has one."""
        if self._has_ended:
            return
        self._has_ended = True
        self.seconds = time.perf_counter() - self._started
        if self.refusal is not None:
            status = self.refusal.status
            self._monitor.metrics.refused(self.refusal)
        self._monitor.metrics.answered(self.route, status, self.seconds)
