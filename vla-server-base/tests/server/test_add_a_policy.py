"""The adapter in docs/add-a-policy.md: short, complete, and served as it stands on the page."""

import re
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from echo_server import wait_until_healthy

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.request_inputs import encode_png
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing.contract import AdapterContract

PAGE = Path(__file__).parents[3] / "docs" / "add-a-policy.md"
MAX_LINES = 40
WEIGHTS = np.random.default_rng(0).normal(size=(192, 28)) / 192


def source() -> str:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    return block


def new_adapter() -> VLAModelAdapter:
    names: dict = {}
    exec(compile(source(), PAGE.name, "exec"), names)
    return names["LinearAdapter"]()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("checkpoint") / "weights.npy"
    np.save(file, WEIGHTS)
    return str(file)


@pytest.fixture(scope="module")
def adapter(weights: str, tmp_path_factory: pytest.TempPathFactory) -> VLAModelAdapter:
    loaded = new_adapter()
    loaded.load_model(weights, "cpu", tmp_path_factory.mktemp("cache"))
    return loaded


class TestDocumentedAdapter(AdapterContract):
    """It keeps the contract that every adapter keeps."""


def test_it_is_complete_in_at_most_forty_lines():
    assert len(source().splitlines()) <= MAX_LINES


def test_it_is_served_and_answers_with_its_own_chunk(weights: str):
    image = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    with serving(create_vla_app(new_adapter(), ServerConfig(), model_id=weights)) as url:
        wait_until_healthy(url)
        reply = httpx.post(f"{url}/predict", json={"image": encode_png(image), "instruction": "wave"}).json()
    assert "actions" in reply, reply
    expected = (image.reshape(-1) / 255.0 @ WEIGHTS).reshape(4, 7)
    np.testing.assert_allclose(reply["actions"], expected, atol=1e-6)
    np.testing.assert_allclose(reply["action"], expected[0], atol=1e-6)


def test_a_missing_checkpoint_is_reported_with_a_hint(tmp_path: Path):
    absent = str(tmp_path / "absent.npy")
    with serving(create_vla_app(new_adapter(), ServerConfig(on_load_failure="stay"), model_id=absent)) as url:
        wait_until_broken(url)
        reply = httpx.get(f"{url}/health")
    assert reply.status_code == 503
    assert "name a file that numpy.save wrote" in reply.text


def wait_until_broken(url: str) -> None:
    for _ in range(100):
        if httpx.get(f"{url}/health").json()["model_status"] == "broken":
            return
        time.sleep(0.05)
    raise AssertionError("the server still loads")
