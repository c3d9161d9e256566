"""A policy of LeRobot's and Octo in one cluster of Ray, each in its own environment, each at its own port."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import numpy as np
from policy_requests import seen_by
from policy_servers import ask, body, free_port, served
from small_policies import save_checkpoint, small_act

from vla_server_base.episodes.http_client import policy_spec

OCTO = Path(__file__).parents[2] / "octo-small" / ".venv" / "bin" / "octo-service"
LEROBOT = Path(sys.executable).with_name("lerobot-service")
_READY_S = 240.0


@contextmanager
def on_cluster(command: Path, *flags: str, **settings: str) -> Iterator[str]:
    """Run a service on a cluster, and return the address of its server once its policy answers."""
    url = f"http://127.0.0.1:{free_port()}"
    variables = {"VLA_PORT": url.rpartition(":")[2], "VLA_SCENE_WORKERS": "1", "FLEET_MODEL_CPUS": "0.4"}
    command_line = [command, "serve", "--engine", "ray", "--ingress-cpus", "0.4", *flags]
    process = subprocess.Popen(command_line, env={**os.environ, **variables, **settings})
    try:
        until = time.monotonic() + _READY_S
        while not is_healthy(url):
            assert process.poll() is None, "the service ended; its log says why"
            assert time.monotonic() < until, "the service was not ready in time"
            time.sleep(0.2)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0


def is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def test_octo_and_a_policy_of_lerobot_share_a_cluster(tmp_path):
    checkpoint = save_checkpoint(small_act(), tmp_path / "act")
    settings = {"VLA_CACHE_DIR": str(tmp_path / "cache")}
    with ExitStack() as stack:
        octo = stack.enter_context(on_cluster(OCTO, OCTO_MODEL="bundled://tabletop", **settings))
        flags = ("--address", "auto")
        lerobot = stack.enter_context(on_cluster(LEROBOT, *flags, LEROBOT_MODEL=str(checkpoint), **settings))
        client = stack.enter_context(httpx.Client(base_url=lerobot, timeout=60))
        alone = stack.enter_context(served(checkpoint, tmp_path / "cache"))
        request = body(seen_by(policy_spec(client.get("/info").json()["policy"])), "", seed=7)
        assert np.array_equal(ask(client, request)["actions"], ask(alone, request)["actions"])
        assert httpx.get(f"{octo}/health").json()["model"] == "bundled://tabletop"
