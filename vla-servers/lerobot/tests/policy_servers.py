"""A real server of a checkpoint, in this process: uvicorn on a free port of the loopback."""

import base64
import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from lerobot_service.adapter import LeRobotAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.contract import Observation
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving


@contextmanager
def served(model: Path, cache: Path, **settings: Any) -> Iterator[httpx.Client]:
    """Yield a client of a server that has loaded this checkpoint."""
    config = ServerConfig(cache_dir=cache, device="cpu", **settings)
    app = create_vla_app(LeRobotAdapter(), config, model_id=str(model))
    with serving(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        deadline = time.monotonic() + 300
        while client.get("/health").status_code != 200:
            assert time.monotonic() < deadline, client.get("/health").text
            time.sleep(0.1)
        yield client


def body(seen: Observation, text: str, **fields: Any) -> dict[str, Any]:
    """Return the body of POST /predict for an observation."""
    return {"images": pictures(seen), "proprio": seen.proprio.tolist(), "instruction": text, **fields}


def pictures(seen: Observation) -> dict[str, str]:
    """Return an observation's images as base64 PNG."""
    return {name: _png(image) for name, image in seen.images.items()}


def ask(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    """Return the reply to POST /predict."""
    reply = client.post("/predict", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def _png(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
