"""`octo-service serve --engine ray` on this machine alone: it answers whatever its replicas reserve, and it ends."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from policy_server import free_port

from vla_server_base.request_inputs import encode_png

pytest.importorskip("ray", reason="the extra `ray`")

STARTED_S, ENDED_S = 120.0, 60.0
SETTINGS = {"OCTO_MODEL": "random://octo-tiny", "VLA_DEVICE": "cpu", "VLA_RENDERER": "raycast"}


@contextmanager
def serving(options: str, log: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Give a service's process, which is ended by SIGTERM."""
    command = [sys.executable, "-m", "octo_service.cli", "serve", "--engine", "ray", *shlex.split(options)]
    with log.open("wb") as written:
        process = subprocess.Popen(
            command, env={**os.environ, **SETTINGS, "VLA_PORT": str(port)}, stdout=written, stderr=written
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(ENDED_S)
    finally:
        process.kill()
        process.wait()


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + STARTED_S
    while not holds():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)


def test_a_session_is_answered_where_replicas_reserve_more_processors_than_there_are(tmp_path: Path):
    log, port = tmp_path / "log", free_port()
    with serving("--model-cpus 500 --ingress-cpus 500", log, port) as process:
        wait_until(lambda: "answers on port" in log.read_text(), process, log)
        body = {"image": encode_png(np.zeros((64, 64, 3), np.uint8)), "instruction": "go", "session_id": "arm"}
        reply = httpx.post(f"http://127.0.0.1:{port}/predict", json=body, timeout=30)
        assert reply.status_code == 200, reply.text
    assert process.returncode == 0


def test_it_ends_while_a_replica_waits_for_a_device_that_nobody_has(tmp_path: Path):
    log = tmp_path / "log"
    with serving("--model-gpus 64", log, free_port()) as process:
        wait_until(lambda: "Adding 1 replica to Deployment(name='model'" in log.read_text(), process, log)
    assert process.returncode == 0
