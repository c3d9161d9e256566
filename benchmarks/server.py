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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MAX_START_S = 300.0


@dataclass(frozen=True)
class Server:
    """A healthy server: where it is, its process, and how long it took from its start."""

    url: str
    pid: int
    healthy_s: float

    def memory_mb(self, field: str = "VmRSS") -> float:
        """Return what the process takes, or at most took ("VmHWM")."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split(f"{field}:")[1].split()[0]) / 1024


@contextmanager
def running(model: str, cache: Path | None = None) -> Iterator[Server]:
    """Serve a model on a free port for the length of a block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"OCTO_MODEL": model, "VLA_PORT": str(port), "VLA_LOG_LEVEL": "error"}
    settings |= {"VLA_CACHE_DIR": str(cache)} if cache else {}
    started, url = time.perf_counter(), f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "octo_service.cli", "serve"]
    with subprocess.Popen(command, env={**os.environ, **settings}) as process:
        try:
            _wait_until_healthy(process, url, started)
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


def _wait_until_healthy(server: subprocess.Popen, url: str, started: float) -> None:
    while time.perf_counter() - started < MAX_START_S:
        if server.poll() is not None:
            sys.exit("the server ended before it was healthy")
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        except urllib.error.HTTPError as error:
            reply = json.load(error)
            if reply["status"] == "broken":
                sys.exit(reply["reason"])
        except OSError:
            pass
        time.sleep(0.02)
    sys.exit(f"not healthy after {MAX_START_S:.0f} s")
