"""Both services run side by side from one clone, each in its own environment, whose versions could not be in one."""

import contextlib
import importlib.metadata
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from vla_server_base.request_inputs import encode_png

OCTO_PYTHON = Path(__file__).parents[2] / "octo-small" / ".venv" / "bin" / "python"
SHARED = ("huggingface-hub", "numpy", "pillow", "websockets")
VERSIONS = f"import importlib.metadata as m; print(*map(m.version, {SHARED}))"


@contextlib.contextmanager
def running(folder: Path, *command: str | Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end of the `with` block."""
    settings = {"VLA_DEVICE": "cpu", "VLA_SCENE_WORKERS": "1", "VLA_RENDERER": "raycast", "HF_HUB_OFFLINE": "1"}
    settings |= {"VLA_CACHE_DIR": str(folder), "OMP_NUM_THREADS": "1", **environment}
    with subprocess.Popen([str(part) for part in command], env={**os.environ, **settings}) as server:
        try:
            yield server
        finally:
            server.terminate()


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def ask(port: int, path: str, body: Mapping | None = None) -> dict:
    """Return a reply, an error's too."""
    sent = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", sent, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=600) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as reply:
        return json.load(reply)


def statuses_until_healthy(port: int) -> list[str]:
    """Return what a starting server says of itself, from the first answer on."""
    statuses, deadline = [], time.monotonic() + 600
    while statuses[-1:] != ["healthy"]:
        assert time.monotonic() < deadline, statuses
        with contextlib.suppress(ConnectionError, urllib.error.URLError):
            statuses.append(ask(port, "/health")["status"])
        time.sleep(0.05)
    return statuses


def image() -> str:
    return encode_png(np.zeros((64, 64, 3), np.uint8))


def libraries_of(server: subprocess.Popen[bytes]) -> set[str]:
    """Return the packages whose compiled code a process has loaded."""
    maps = Path(f"/proc/{server.pid}/maps").read_text()
    return set(re.findall(r"site-packages/(\w+)/", maps))


def versions_in(python: str | Path) -> dict[str, str]:
    printed = subprocess.run([str(python), "-c", VERSIONS], capture_output=True, text=True, check=True).stdout
    return dict(zip(SHARED, printed.split(), strict=True))


def test_both_services_answer_side_by_side_without_the_others_packages(act_checkpoint: Path, tmp_path: Path):
    ports = {"octo": free_port(), "lerobot": free_port()}
    octo = (OCTO_PYTHON, "-m", "uvicorn", "octo_service.main:app", "--port", str(ports["octo"]))
    lerobot = (sys.executable, "-m", "uvicorn", "lerobot_service.main:app", "--port", str(ports["lerobot"]))
    with (
        running(tmp_path / "octo", *octo, OCTO_MODEL="bundled://tabletop") as octos,
        running(tmp_path / "lerobot", *lerobot, LEROBOT_MODEL=str(act_checkpoint)) as lerobots,
    ):
        assert statuses_until_healthy(ports["lerobot"])[0] == "loading", "its port answers before PyTorch is imported"
        statuses_until_healthy(ports["octo"])
        proprio = [0.0] * ask(ports["lerobot"], "/info")["policy"]["proprio_dim"]
        seen_by_act = {"images": {"top": image(), "wrist": image()}, "proprio": proprio, "seed": 7}
        of_act = ask(ports["lerobot"], "/predict", {"instruction": "pick up the red cube", **seen_by_act})
        of_octo = ask(ports["octo"], "/predict", {"instruction": "pick up the red cube", "image": image(), "seed": 7})
        loaded = {"octo": libraries_of(octos), "lerobot": libraries_of(lerobots)}
    assert np.isfinite(of_act["action"]).all(), of_act
    assert np.isfinite(of_octo["action"]).all(), of_octo
    assert {"jaxlib"} <= loaded["octo"]
    assert loaded["octo"].isdisjoint({"torch", "torchvision", "lerobot"})
    assert {"torch"} <= loaded["lerobot"]
    assert loaded["lerobot"].isdisjoint({"jax", "jaxlib"})


def test_their_environments_have_versions_that_conflict():
    ours, octos = versions_in(sys.executable), versions_in(OCTO_PYTHON)
    print(f"lerobot_service: {ours}\nocto_service:    {octos}")
    name = "huggingface-hub"
    assert (ours[name].partition(".")[0], octos[name].partition(".")[0]) == ("1", "2")
    needed = [need for need in importlib.metadata.requires("lerobot") or () if need.startswith(name)]
    assert "<2" in needed[0], "LeRobot excludes what Octo's service needs"
    assert [name for name in SHARED if ours[name] != octos[name]], "they are different environments"


@pytest.mark.parametrize(
    ("python", "module", "foreign"),
    [
        (sys.executable, "lerobot_service.main", {"torch", "lerobot", "jax", "octo_service"}),
        (sys.executable, "lerobot_service.adapter", {"torch", "lerobot", "jax", "octo_service"}),
        (OCTO_PYTHON, "octo_service.adapter", {"torch", "lerobot", "lerobot_service"}),
    ],
)
def test_a_module_imports_nothing_of_the_other_service(python: str | Path, module: str, foreign: set[str]):
    code = f"import sys, {module}; print(*sys.modules)"
    printed = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout
    assert foreign.isdisjoint(printed.split())
