"""How long a server takes to its first action, and what it takes: seconds to healthy, memory, installed size.

    cd vla-servers/octo-small && uv run python ../../benchmarks/start_up.py [--model random://octo-small-1.5]

Each model is started twice on a cache folder that is empty at first: cold, then with compiled programs and converted
weights in place. Prints a Markdown table.
"""

import argparse
import base64
import importlib.metadata
import io
import json
import os
import platform
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MAX_START_S = 300.0
REQUESTS = 10


def main() -> None:
    """Measure every model that is named and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="random://, hf:// or a folder; may be given several times")
    models = parser.parse_args().model or ["random://octo-small-1.5"]
    print(f"{_machine()}; installed size of the environment: {_installed_mb():.0f} MB.\n")
    print("| model | cache | healthy after s | first /predict ms | /predict ms (median of 10) | memory MB | peak MB |")
    print("|---|---|---|---|---|---|---|")
    for model in models:
        with tempfile.TemporaryDirectory() as cache:
            for state in ("cold", "warm"):
                row = _measure(model, Path(cache))
                print(f"| {model} | {state} | " + " | ".join(row) + " |", flush=True)


def _measure(model: str, cache: Path) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"OCTO_MODEL": model, "VLA_CACHE_DIR": str(cache), "VLA_PORT": str(port), "VLA_LOG_LEVEL": "error"}
    started = time.perf_counter()
    command = [sys.executable, "-m", "octo_service.cli", "serve"]
    with subprocess.Popen(command, env={**os.environ, **settings}) as server:
        try:
            _wait_until_healthy(server, f"http://127.0.0.1:{port}", started)
            healthy_s = time.perf_counter() - started
            first_ms, *others_ms = (_predict_ms(f"http://127.0.0.1:{port}", seed) for seed in range(REQUESTS + 1))
            memory = [_memory_mb(server.pid, field) for field in ("VmRSS", "VmHWM")]
        finally:
            server.terminate()
    return [f"{healthy_s:.1f}", f"{first_ms:.0f}", f"{np.median(others_ms):.0f}", *(f"{size:.0f}" for size in memory)]


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


def _predict_ms(url: str, seed: int) -> float:
    picture = io.BytesIO()
    Image.fromarray(np.full((224, 224, 3), 128, np.uint8)).save(picture, "PNG")
    encoded = base64.b64encode(picture.getvalue()).decode()
    body: dict[str, Any] = {"instruction": "pick up the red cube", "image": encoded, "seed": seed}
    request = urllib.request.Request(f"{url}/predict", json.dumps(body).encode(), {"Content-Type": "application/json"})
    started = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as response:
        assert len(json.load(response)["action"]) == 8
    return 1e3 * (time.perf_counter() - started)


def _memory_mb(pid: int, field: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def _installed_mb() -> float:
    packages = Path(sysconfig.get_path("purelib"))
    return sum(file.stat().st_size for file in packages.rglob("*") if file.is_file()) / 2**20


def _machine() -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next(
            line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        )
    versions = f"Python {platform.python_version()}, jax {importlib.metadata.version('jax')}"
    return f"{time.strftime('%Y-%m-%d')}, {cpu}, {os.cpu_count()} cores, {versions}"


if __name__ == "__main__":
    main()
