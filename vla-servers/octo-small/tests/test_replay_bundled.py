"""`octo-service replay` with the policy that comes with the package: every bit of every step, on the same build."""

import base64
import io
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from policy_server import wait_until_healthy

from octo_service.adapter import OctoSmallAdapter
from octo_service.program import OCTO
from vla_client import Policy
from vla_server_base.commands.command_line import parse, run
from vla_server_base.config import ServerConfig
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving

SESSIONS = {"one": {}, "two": {"execution": "ensemble"}, "three": {"execution": "blended", "inference_delay": 1}}


def noise_image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (300, 400, 3), np.uint8)


def encoded(image: np.ndarray) -> str:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG", compress_level=1)
    return base64.b64encode(content.getvalue()).decode()


def drive(client: httpx.Client, num_steps: int) -> None:
    """Three robots that take turns, each with an episode that begins again in the middle."""
    for number in range(num_steps):
        for session, first in SESSIONS.items():
            body = {
                "session_id": session,
                "instruction": "pick up the red cube",
                "images": {"primary": encoded(noise_image(number))},
            }
            begins = number in (0, num_steps // 2)
            response = client.post("/predict", json=body | ({"reset": True, "seed": number, **first} if begins else {}))
            assert response.status_code == 200, response.text


def drive_socket(url: str, num_steps: int) -> None:
    """A robot on a WebSocket, whose pixels come as an array and whose delays the server measures."""
    with Policy(url.replace("http", "ws"), seed=5, execution="blended", control_hz=20) as policy:
        for number in range(num_steps):
            policy.act(noise_image(number), "pick up the red cube")


def test_sessions_of_the_bundled_policy_are_replayed_bit_for_bit(tmp_path: Path, capsys):
    folder, cache = str(tmp_path / "recordings"), tmp_path / "cache"
    config = ServerConfig(cache_dir=cache, device="cpu", scene_workers=1, record=folder)
    app = create_vla_app(OctoSmallAdapter(), config, model_id="bundled://tabletop")
    with serving(app) as url, httpx.Client(base_url=url, timeout=300) as client:
        wait_until_healthy(url)
        drive(client, num_steps=6)
        drive_socket(url, num_steps=4)
        while client.get("/load").json()["recording"]["num_waiting"]:
            pass
        run(OCTO, parse(OCTO, ["replay", folder, "--url", url, "--cache-dir", str(cache)]))
    assert "build        the same\nsessions     4\nturns        22, of which 22 are the same" in capsys.readouterr().out
