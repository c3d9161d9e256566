"""A policy whose library ends the thread: the device thread goes on."""

import httpx
from echo_server import echo_app, of_one_colour, wait_until_healthy

from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter

STEP = {"instruction": "go", "image": of_one_colour(255, 0, 0), "session_id": "arm"}


class Ending(EchoAdapter):
    """Calls `sys.exit` whenever it prefetches, and on every request of seed 1."""

    def prefetch(self, policy_input):
        raise SystemExit(1)

    def predict(self, batch):
        if any(each.seed == 1 for each in batch):
            raise SystemExit(1)
        return super().predict(batch)


def test_a_policy_that_ends_its_thread_costs_its_own_request_alone():
    with serving(echo_app(Ending())) as url, httpx.Client(base_url=url) as client:
        wait_until_healthy(url)
        failed = client.post("/predict", json={**STEP, "session_id": "other", "seed": 1})
        assert (failed.status_code, failed.json()["error"]["code"]) == (500, "internal")
        assert [client.post("/predict", json=STEP).json()["session"]["step"] for _ in range(3)] == [0, 1, 2]
        assert client.get("/health").status_code == 200
