"""A server in a process of its own, to be measured from outside; the machine it runs on; the file of all figures."""

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVE = ("-m", "octo_service.cli", "serve")
MAX_START_S = 300.0
# Asking more often would take the processor from the start that is measured.
ASK_AGAIN_S = 0.1


@dataclass(frozen=True)
class Server:
    """A server that was started: where it is, its process, and when that was, by `time.perf_counter`."""

    url: str
    process: subprocess.Popen
    started: float

    def seconds_until(self, is_ready: Callable[[str], bool]) -> float:
        """Wait until `is_ready` of its address; return how long after its start that was, end this program if never."""
        while (waited := time.perf_counter() - self.started) < MAX_START_S:
            if self.process.poll() is not None:
                sys.exit("the server ended before it was ready")
            if is_ready(self.url):
                return time.perf_counter() - self.started
            time.sleep(ASK_AGAIN_S)
        sys.exit(f"not ready after {waited:.0f} s")

    def memory_mb(self, field: str = "VmRSS") -> float:
        """Return what the process takes, or at most took ("VmHWM")."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
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


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def running(
    model: str, cache: Path | None = None, command: Sequence[str] = SERVE, **environment: str
) -> Iterator[Server]:
    """Serve a model on a free port for the length of a block, from when it is healthy."""
    with starting(model, cache, command, **environment) as server:
        server.seconds_until(is_healthy)
        yield server


@contextmanager
def starting(
    model: str, cache: Path | None = None, command: Sequence[str] = SERVE, **environment: str
) -> Iterator[Server]:
    """Start serving a model on a free port, for the length of a block; the environment has settings, too."""
    port = free_port()
    settings = {"OCTO_MODEL": model, "VLA_PORT": str(port), "VLA_LOG_LEVEL": "error", **environment}
    settings |= {"VLA_CACHE_DIR": str(cache)} if cache else {}
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, *command], env={**os.environ, **settings}) as process:
        try:
            yield Server(f"http://127.0.0.1:{port}", process, started)
        finally:
            process.terminate()


def machine() -> str:
    """Name the day, the processor, how many cores, and the versions."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    installed = {each.name: each.version for each in importlib.metadata.distributions()}
    versions = [f"{name} {installed[name]}" for name in ("jax", "torch", "lerobot") if name in installed]
    python = f"Python {platform.python_version()}"
    return ", ".join([time.strftime("%Y-%m-%d"), cpu, f"{os.cpu_count()} cores", python, *versions])


def add_figures(file: Path | None, name: str, figures: Any) -> None:
    """Add what was measured to a file that other benchmarks add to, under its name; the machine with it."""
    if file is not None:
        others = json.loads(file.read_text()) if file.exists() else {}
        measured = {"machine": machine(), "figures": figures}
        file.write_text(json.dumps({**others, name: measured}, indent=1))
