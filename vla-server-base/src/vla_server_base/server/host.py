"""The uvicorn that an app finds itself in, and what it asks of it, however it was started.

uvicorn makes its protocols of its configuration after an app's lifespan has begun, so what our sockets need is set
there: under `octo-service serve`, `uvicorn module:app` and gunicorn's uvicorn worker alike.
"""

import asyncio
import inspect
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import STARTUP_FAILURE
from uvicorn.lifespan.on import LifespanOn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.server import HANDLED_SIGNALS

from vla_server_base.access.binding import check_binding, check_socket
from vla_server_base.access.tls import TlsCertificate
from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.errors import VLAError
from vla_server_base.server.sockets import uvicorn_settings
from vla_server_base.server.traffic import Traffic
from vla_server_base.server.watchdog import Watchdog

logger = logging.getLogger(__name__)

_SAME_SIGNAL_S = 1.0


class SeveralWorkers(ConfigError):
    """Several processes are to serve one port."""

    def __init__(self, num: int | str):
        super().__init__(
            f"{num} worker processes were started, but sessions are not shared between processes",
            hint="start one (--workers 1, WEB_CONCURRENCY=1), or several servers with a port each",
        )

    def end_supervisor(self) -> None:
        """End the uvicorn that has started this process as one of several: it would start others, or end with 0."""
        supervisor = multiprocessing.parent_process()
        if supervisor is not None and supervisor.pid is not None and supervisor.is_alive():
            os.kill(supervisor.pid, signal.SIGKILL)


class Host:
    """The server that runs an app; to be made in the app's lifespan."""

    def __init__(self, *, shares_port: bool = False) -> None:
        """`shares_port`: other servers listen at the same port, and take its connections when this one ends."""
        self.shares_port = shares_port
        self._config = _running_uvicorn()
        self._server = _server_of_this_process(self._config)
        self._has_failed = False
        self._watchdog: Watchdog | None = None

    def prepare(self, config: ServerConfig, traffic: Traffic, certificate: TlsCertificate | None = None) -> None:
        """Have connections served as the settings say, and each request logged once, under its peer's address.

        With a `certificate` they are encrypted.

        Raises:
            ConfigError: this is one of several processes, the port cannot be had, or others reach it without keys.
        """
        if self._config is None:
            logger.warning(
                "this server is not uvicorn: the limits on connections (VLA_MAX_SOCKETS and others) do not apply"
            )
            if certificate is not None:
                raise ConfigError("VLA_TLS_CERT is only for uvicorn", hint="have this server itself use TLS")
            return
        if certificate is not None:
            # uvicorn makes its sockets after the app has started.
            self._config.ssl, self._config.ssl_certfile = certificate.context, certificate.cert
        if (num_workers := _num_workers(self._config)) > 1:
            raise SeveralWorkers(num_workers)
        _check_binding(self._config, config)
        if self._server is not None and _binds_by_itself(self._config):
            _check_port(self._config.host, self._config.port)
        for name, value in uvicorn_settings(config, traffic).items():
            setattr(self._config, name, value)
        if isinstance(self._config.loaded_app, ProxyHeadersMiddleware):
            # It lets everybody on this machine name himself by X-Forwarded-For.
            self._config.loaded_app = self._config.loaded_app.app
        access_log = logging.getLogger("uvicorn.access")  # as uvicorn does for --no-access-log
        access_log.handlers.clear()
        access_log.propagate = False

    def take_signals(self, stop: Callable[[bool], None], *, longest_s: float, last: Callable[[], None]) -> None:
        """Have SIGTERM and SIGINT call `stop` on the event loop, with whether it is urgent, and end nothing themselves.

        Left to uvicorn, they end the listening at once, before a load balancer notices, and the process by a signal.
        A signal a moment later is the same one: two supervisors may both forward it. A process that has not ended
        `longest_s` later calls `last` and is killed.
        """
        if self._server is None:
            return
        watchdog = self._watchdog = Watchdog(lambda: self._kill(last))
        loop = asyncio.get_running_loop()
        first_at: float | None = None

        def take(*_: object) -> None:
            nonlocal first_at
            now = time.monotonic()
            first_at = now if first_at is None else first_at
            watchdog.end_by(longest_s)  # before anything that takes memory, which may be used up
            loop.call_soon_threadsafe(stop, now - first_at > _SAME_SIGNAL_S)

        for number in HANDLED_SIGNALS:
            signal.signal(number, take)

    def close_listeners(self) -> None:
        """Take no more connections, and keep those that are open."""
        for listening in getattr(self._server, "servers", ()):
            listening.close()

    def stop(self, grace_s: float) -> None:
        """End this process: close all connections, the busy ones at last, and the app."""
        if self._server is not None and self._config is not None:
            self._config.timeout_graceful_shutdown = grace_s  # pyright: ignore[reportAttributeAccessIssue]
            self._server.should_exit = True

    def end_by(self, seconds: float) -> None:
        """End this process after some seconds, even if it hangs; call it when the process is about to end."""
        if self._watchdog is not None:
            self._watchdog.end_by(seconds)

    def end(self) -> None:
        """End this process in good order, as one that could not start; a server in another program's thread stays."""
        if self._server is not None:
            self._has_failed = self._server.should_exit = True

    def _kill(self, last: Callable[[], None]) -> None:
        logger.warning("the server did not end in time and is killed")
        last()
        os._exit(STARTUP_FAILURE if self._has_failed else 0)

    def close(self) -> None:
        """Leave the exit code of `end`: uvicorn has one for a server that has not started, and none for later."""
        if self._server is not None and self._has_failed:
            self._server.started = False


async def lifespan_in_one_sentence(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run an app's lifespan; if it cannot start, it says why in one sentence, where Starlette sends a traceback."""
    failure: Message | None = None

    async def hold_failure(message: Message) -> None:
        nonlocal failure
        if message["type"] == "lifespan.startup.failed":
            failure = message
        else:
            await send(message)

    try:
        await app(scope, receive, hold_failure)
    except BaseException as error:
        if failure is not None:
            sentence = {"message": error.as_sentence()} if isinstance(error, VLAError) else {}
            await send({**failure, **sentence})
        if isinstance(error, SeveralWorkers):
            error.end_supervisor()
        raise


def _running_uvicorn() -> uvicorn.Config | None:
    """Return the configuration of the uvicorn in whose lifespan this is called: it runs it as a separate task."""
    task = asyncio.current_task()
    coroutine = task and task.get_coro()
    lifespan = inspect.getcoroutinelocals(coroutine).get("self") if inspect.iscoroutine(coroutine) else None
    return lifespan.config if isinstance(lifespan, LifespanOn) else None


def _server_of_this_process(config: uvicorn.Config | None) -> uvicorn.Server | None:
    """Return the uvicorn that takes this process's signals; None if it runs in a thread of some other program."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if isinstance(server, uvicorn.Server) and server.config is config else None


def _num_workers(config: uvicorn.Config) -> int:
    if multiprocessing.parent_process() is not None and not config.should_reload:
        return config.workers
    # gunicorn's worker has itself notified.
    worker = getattr(config.callback_notify, "__self__", None)
    return getattr(getattr(worker, "cfg", None), "workers", 1)


def _binds_by_itself(config: uvicorn.Config) -> bool:
    """Return whether uvicorn still has to bind its port; supervisors hand over a bound one."""
    given = (multiprocessing.parent_process(), config.callback_notify, config.fd, config.uds)
    return config.port != 0 and not any(each is not None for each in given)


def _check_binding(uvicorn_config: uvicorn.Config, config: ServerConfig) -> None:
    """Check that others cannot reach this server, unless they need keys; where it listens is uvicorn's to say."""
    # gunicorn's worker has bound its sockets, and a supervisor has handed over a descriptor.
    worker = getattr(uvicorn_config.callback_notify, "__self__", None)
    for listening in getattr(worker, "sockets", ()):
        check_socket(config, listening.sock)
    if uvicorn_config.fd is not None:
        with socket.socket(fileno=os.dup(uvicorn_config.fd)) as listening:
            check_socket(config, listening)
    elif uvicorn_config.uds is None and worker is None:
        check_binding(config, uvicorn_config.host, "the host")


def _check_port(host: str, port: int) -> None:
    """Find out whether a port can be had before anything is loaded: uvicorn would only after."""
    try:
        for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port} ({error.strerror})",
            hint="choose another: VLA_HOST and VLA_PORT, or uvicorn's --host and --port",
        ) from error
