"""A server in a process of its own, to be measured from outside, and the machine it runs on."""

import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MAX_START_S = 300.0


@dataclass(frozen=True)
class Server:
    """A server that runs: where it is, its process, and how long it took from its start."""

    url: str
    pid: int
    ready_s: float

    def memory_mb(self, field: str = "VmRSS") -> float:
        """Return what the process takes, or at most took ("VmHWM")."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split(f"{field}:")[1].split()[0]) / 1024


def is_healthy(url: str) -> bool:
    """Say whether the server is healthy; end this program where it never will be."""
    try:
        urllib.request.urlopen(f"{url}/health", timeout=5).close()
    except urllib.error.HTTPError as error:
        reply = json.load(error)
        if reply["status"] == "broken":
            sys.exit(reply["reason"])
        return False
    except OSError:
        return False
    return True


@contextmanager
def running(model: str, cache: Path | None = None, is_ready: Callable[[str], bool] = is_healthy) -> Iterator[Server]:
    """Serve a model on a free port for the length of a block, from when `is_ready` of its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"OCTO_MODEL": model, "VLA_PORT": str(port), "VLA_LOG_LEVEL": "error"}
    settings |= {"VLA_CACHE_DIR": str(cache)} if cache else {}
    started, url = time.perf_counter(), f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "octo_service.cli", "serve"]
    with subprocess.Popen(command, env={**os.environ, **settings}) as process:
        try:
            _wait(process, started, lambda: is_ready(url))
            yield Server(url, process.pid, time.perf_counter() - started)
        finally:
            process.terminate()


def machine() -> str:
    """Name the day, the processor, how many cores, and the versions."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    versions = f"Python {platform.python_version()}, jax {importlib.metadata.version('jax')}"
    return f"{time.strftime('%Y-%m-%d')}, {cpu}, {os.cpu_count()} cores, {versions}"


def _wait(server: subprocess.Popen, started: float, is_ready: Callable[[], bool]) -> None:
    while time.perf_counter() - started < MAX_START_S:
        if server.poll() is not None:
            sys.exit("the server ended before it was ready")
        if is_ready():
            return
        time.sleep(0.02)
    sys.exit(f"not ready after {MAX_START_S:.0f} s")
