"""A second checkpoint of Octo beside the one that serves: it takes over and goes back, and a robot stays on its own."""

import base64
import io
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image
from policy_server import wait_until_healthy

from octo_service.config import OctoConfig
from octo_service.program import OCTO
from vla_server_base.commands.serve import create_app
from vla_server_base.config import ServerConfig
from vla_server_base.server.uvicorn_server import serving

FIRST, SECOND = "bundled://tabletop", "random://octo-tiny"
LONGEST_LOAD_S = 240.0


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    cache = tmp_path_factory.mktemp("cache")
    server = ServerConfig(cache_dir=cache, device="cpu", scene_workers=1, models="on", model_sources="random://*")
    app = create_app(OCTO, server, OctoConfig(model=FIRST))
    with serving(app) as url, httpx.Client(base_url=url, timeout=120) as client:
        wait_until_healthy(url)
        yield client


def load(client: httpx.Client, **fields) -> dict:
    """Load the second checkpoint, and return what is told of it once it is warm, or cannot be."""
    response = client.post("/models", json={"model": SECOND, **fields})
    assert response.status_code == 202, response.text
    deadline = time.monotonic() + LONGEST_LOAD_S
    while (model := client.get(response.headers["location"]).json())["state"] in ("loading", "warming_up"):
        assert time.monotonic() < deadline, model
        time.sleep(0.1)
    return model


def predict(client: httpx.Client, **fields) -> dict:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(content, "PNG")
    image = base64.b64encode(content.getvalue()).decode()
    response = client.post("/predict", json={"instruction": "pick up the red cube", "image": image, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def test_another_kind_of_octo_is_refused_with_what_robots_would_find(client: httpx.Client):
    model = load(client, id="other")
    assert model["state"] == "broken"
    assert "cameras (primary 256x256, wrist 128x128) instead of (primary 128x128, wrist 96x96)" in model["reason"]
    assert predict(client)["model"] == FIRST


def test_a_second_checkpoint_takes_new_requests_and_a_robot_stays_on_its_own(client: httpx.Client):
    """Each reply names its model, and a roll back needs no load; the robot's answers are the same to the bit."""
    begin = {"session_id": "arm", "reset": True, "seed": 3}
    before = predict(client, **begin)
    assert load(client, id="tiny", allow_different_contract=True)["state"] == "serving"
    new, alone = predict(client, session_id="new"), predict(client)
    beside = predict(client, **begin)
    assert client.post(f"/models/{FIRST}/serve", json={"allow_different_contract": True}).json()["state"] == "serving"
    assert [each["model"] for each in (before, new, alone, beside, predict(client))] == [
        FIRST, "tiny", "tiny", FIRST, FIRST
    ]  # fmt: skip
    assert beside["actions"] == before["actions"]
    assert (new["weights"], beside["weights"]) == ("random", "pretrained")
    assert client.delete("/models/tiny", params={"force": True}).status_code == 200
    assert client.get("/models/tiny").status_code == 404
    assert predict(client, session_id="new")["model"] == FIRST
