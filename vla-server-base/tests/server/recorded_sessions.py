"""Servers that record, and robots that are recorded."""

import io
import json
from base64 import b64decode
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from echo_server import echo_app, encoded, wait_until, wait_until_healthy
from mcap.reader import NonSeekingReader
from PIL import Image

from vla_server_base.commands import replay
from vla_server_base.commands.options.replay import ReplaySessions
from vla_server_base.commands.program import PolicyProgram
from vla_server_base.config import PolicySettings, ServerConfig
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter


@dataclass(frozen=True, kw_only=True)
class EchoConfig(PolicySettings):
    """The settings of a service whose policy has none."""

    model: str = "echo"


class ConfiguredEcho(EchoAdapter):
    """An echo as a service makes it, with its settings."""

    def __init__(self, config: EchoConfig):
        self.config = config


ECHO = PolicyProgram(
    name="echo-service",
    description="An echo, served.",
    config=EchoConfig,
    prefix="ECHO",
    commands={},
    adapter="recorded_sessions:ConfiguredEcho",
    resize="",
    packages=("vla-server-base", "numpy"),
)


@contextmanager
def recording_server(folder: Path, adapter=None, **settings):
    """A server that records in `folder/recordings`, and keeps its key in `folder/cache`."""
    app = echo_app(adapter, record=str(folder / "recordings"), cache_dir=folder / "cache", **settings)
    with serving(app) as url:
        wait_until_healthy(url)
        with httpx.Client(base_url=url, timeout=30) as client:
            yield client


def noise_image(number: int, height: int = 9, width: int = 12) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def take_step(client: httpx.Client, session: str | None, number: int = 0, **body) -> dict:
    body = {"instruction": "go", "images": {"primary": encoded(noise_image(number))}, "session_id": session, **body}
    response = client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def recording(client: httpx.Client) -> dict:
    return client.get("/load").json()["recording"]


def wait_until_written(client: httpx.Client) -> None:
    wait_until(lambda: recording(client)["num_waiting"] == 0)


def messages(folder: Path) -> dict[str, list[dict]]:
    """All messages by topic, read by the library alone."""
    by_topic = defaultdict(list)
    for path in sorted((folder / "recordings").glob("*.mcap")):
        with path.open("rb") as file:
            for _schema, channel, message in NonSeekingReader(file).iter_messages(log_time_order=False):
                by_topic[channel.topic].append(json.loads(message.data))
    return dict(by_topic)


def pixels(message: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(b64decode(message["data"]))))


def replayed(client: httpx.Client, folder: Path, **options) -> int:
    """The exit code of `replay`."""
    config = ServerConfig(cache_dir=folder / "cache")
    given = {"files": (folder / "recordings",), "url": str(client.base_url), "server": config, **options}
    try:
        replay.run(ReplaySessions(**given), ECHO)
    except SystemExit as end:
        return int(end.code or 0)
    return 0
