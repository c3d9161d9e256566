"""Programs that tests start and end: a policy server with Octo's bundled policy, and `vla-console`."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

OCTO = Path(__file__).parents[2] / "vla-servers" / "octo-small" / ".venv" / "bin" / "octo-service"
DEADLINE_S = 120.0


class PolicyServer:
    """`octo-service serve` on a port of its own; it can be killed, and started again at the same address."""

    def __init__(self, log: Path, **settings: str):
        assert OCTO.exists(), f"{OCTO} is missing: run `make setup`"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log, self._settings = log, settings

    def start(self) -> None:
        """Start it, and wait until its policy answers."""
        environment = {**os.environ, "OCTO_MODEL": "bundled://tabletop", "VLA_PORT": str(self.port), **self._settings}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([OCTO, "serve"], env=environment, stdout=log, stderr=log)
        wait_until(self._is_healthy, self._log.read_text)

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, in the middle of what it does."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        self._process.send_signal(how)
        self._process.wait(DEADLINE_S)

    def _is_healthy(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health", verify=False).is_success
        return False


@contextmanager
def policy_server(log: Path, **settings: str) -> Iterator[PolicyServer]:
    server = PolicyServer(log, **settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def console_program(*urls: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`vla-console` for these servers: its address and its process."""
    command = [Path(sys.executable).with_name("vla-console"), *urls, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            printed = process.stdout.readline()
            address = re.match(r"vla-console: (http://127\.0\.0\.1:\d+) shows ", printed)
            assert address is not None, printed
            wait_until(lambda: answers(address[1]))
            yield address[1], process
        finally:
            process.terminate()


def answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        # Reading the list of authorities would take 20 ms each time, of the processors on which the server starts.
        return httpx.get(url, verify=False).is_success
    return False


def wait_until(condition: Callable[[], bool], why: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {why()}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]
