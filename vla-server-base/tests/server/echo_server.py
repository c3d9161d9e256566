"""A server with the echo adapter, and ways to ask it."""

import base64
import io
import time

import httpx
import numpy as np
from PIL import Image

from vla_server_base.config import ServerConfig
from vla_server_base.server.app import create_vla_app
from vla_server_base.testing import EchoAdapter

DEADLINE_S = 60.0


def encoded(pixels, file_format="PNG", **options) -> str:
    """Base64 of a picture file, from an array or a Pillow image."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels, np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return base64.b64encode(buffer.getvalue()).decode()


def of_one_colour(*rgb: int) -> str:
    return encoded(np.full((8, 8, 3), rgb))


def echo_app(adapter=None, **settings):
    config = ServerConfig(**{"scene_workers": 1, **settings})
    return create_vla_app(adapter or EchoAdapter(), config, model_id="echo")


def wait_until(condition) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s"
        time.sleep(0.005)


def wait_until_loaded(base_url: str) -> None:
    """Wait for the model; the workers that draw scenes may still be starting."""
    wait_until(lambda: (info := answers(f"{base_url}/info")) and info.json()["model_status"] == "loaded")


def wait_until_healthy(base_url: str) -> None:
    wait_until(lambda: answers(f"{base_url}/health"))


def answers(url: str) -> httpx.Response | None:
    """The answer, if there is one and it is good; a server that comes or goes breaks connections."""
    try:
        # Reading the list of authorities would take 20 ms each time, of the processors on which the server starts.
        response = httpx.get(url, verify=False)
    except httpx.TransportError:
        return None
    return response if response.is_success else None
