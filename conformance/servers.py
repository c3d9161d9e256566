"""The servers that clients run against: an echo policy in this process, ACT in a process of LeRobot's service."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from releases import ACT, Release, Transport

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving

LEROBOT = Path(__file__).parent.parent / "vla-servers" / "lerobot"
LOAD_S = 900
MOTORS = " ".join(f"joint_{number}.pos" for number in range(7))


@dataclass(frozen=True, kw_only=True)
class Served:
    """Where a server answers: its URL, and its ports by transport."""

    url: str
    ports: Mapping[Transport, int]


class Servers:
    """Makes servers: an echo policy's for one client alone, ACT's, which takes long to load, for all that come."""

    def __init__(self, until_closed: ExitStack):
        self._until_closed = until_closed
        self._acts: dict[str, Served] = {}

    @contextmanager
    def server_for(self, release: Release) -> Iterator[Served]:
        """Give a release the server of its policy, once the policy is loaded."""
        if release.policy == ACT:
            if release.execution not in self._acts:
                self._acts[release.execution] = self._until_closed.enter_context(act(release.execution))
            yield self._acts[release.execution]
        else:
            with echo(release.policy(), release.transport) as served:
                yield served


@contextmanager
def echo(policy: VLAModelAdapter, transport: Transport) -> Iterator[Served]:
    """Serve a policy in this process."""
    ports: dict[Transport, int] = {transport: free_port()}
    config = ServerConfig(zmq_port=ports.get("zmq", 0), lerobot_port=ports.get("lerobot", 0), scene_workers=1)
    with serving(create_vla_app(policy, config, model_id="echo")) as url:
        until_loaded(url)
        yield Served(url=url, ports={**ports, "http": int(url.rpartition(":")[2])})


@contextmanager
def act(execution: str) -> Iterator[Served]:
    """Serve a small ACT, which LeRobot writes first, by `lerobot-service serve`."""
    programs = LEROBOT / ".venv" / "bin"
    ports: dict[Transport, int] = {"http": free_port(), "lerobot": free_port()}
    with tempfile.TemporaryDirectory() as folder:
        command = [programs / "python", LEROBOT / "tests" / "checkpoints_of_types.py", "act", folder]
        subprocess.run(command, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        settings = {
            "LEROBOT_MODEL": folder,
            "LEROBOT_ACTION_NAMES": MOTORS,
            "LEROBOT_STATE_NAMES": f"{MOTORS} lift.pos",
            "LEROBOT_EXECUTION": execution,
            "LEROBOT_CONTROL_HZ": "30",
            "LEROBOT_TORCH_THREADS": "1",
            "VLA_LOG_LEVEL": "warning",
            "VLA_PORT": str(ports["http"]),
            "VLA_LEROBOT_PORT": str(ports["lerobot"]),
            "HF_HUB_OFFLINE": "1",
        }
        process = subprocess.Popen([programs / "lerobot-service", "serve"], env={**os.environ, **settings})
        try:
            url = f"http://127.0.0.1:{ports['http']}"
            until_loaded(url)
            yield Served(url=url, ports=ports)
        finally:
            process.terminate()
            process.wait()


def until_loaded(url: str) -> None:
    """Wait until the server has its policy."""
    deadline = time.monotonic() + LOAD_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/healthz").is_success:
                return
        except httpx.ConnectError:
            pass  # The process is still starting.
        time.sleep(0.1)
    raise TimeoutError(f"no policy within {LOAD_S} s")


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
