"""What orchestrators ask: KServe's paths and /healthz, while the policy loads and when it is there."""

import threading

import httpx
import pytest
from echo_server import echo_app, wait_until_healthy

from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter


@pytest.fixture(scope="module")
def kserve():
    with serving(echo_app()) as url:
        wait_until_healthy(url)
        with httpx.Client(base_url=url) as client:
            yield client


def test_a_server_that_answers_is_live_and_ready(kserve):
    assert kserve.get("/v2").json()["name"] == "vla-servers"
    assert kserve.get("/v2/health/live").json() == {"live": True}
    assert kserve.get("/v2/health/ready").json() == {"ready": True}
    assert kserve.get("/v2/models/echo/ready").json() == {"name": "echo", "ready": True}
    assert kserve.get("/healthz").text == "OK\n"


def test_a_model_s_metadata_name_what_it_takes_and_gives(kserve):
    found = kserve.get("/v2/models/echo").json()
    shapes = {tensor["name"]: tensor["shape"] for tensor in [*found["inputs"], *found["outputs"]]}
    assert shapes["image_primary"] == [-1, -1, 3]
    assert shapes["instruction"] == [1]
    assert shapes["proprio"] == [3]
    assert shapes["actions"] == [4, 7]


def test_another_model_is_not_found(kserve):
    for path in ("/v2/models/other", "/v2/models/other/ready"):
        answer = kserve.get(path)
        assert (answer.status_code, answer.json()["error"]["hint"]) == (404, "available: echo")


class SlowEcho(EchoAdapter):
    def __init__(self):
        self.may_load = threading.Event()

    def load_model(self, model_id, device, cache_dir):
        self.may_load.wait(30)


def test_a_server_that_loads_is_live_but_not_ready():
    adapter = SlowEcho()
    with serving(echo_app(adapter)) as url:
        assert httpx.get(f"{url}/v2/health/live").json() == {"live": True}
        for path in ("/v2/health/ready", "/v2/models/echo/ready", "/v2/models/echo", "/healthz"):
            assert httpx.get(url + path).status_code == 503
        adapter.may_load.set()
        wait_until_healthy(url)
