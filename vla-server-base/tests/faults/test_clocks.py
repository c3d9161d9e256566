"""The clock of the wall jumps, as where a machine without a battery meets a time server."""

import time

import httpx
import pytest
from echo_server import echo_app, of_one_colour, wait_until_healthy

from vla_server_base.server.uvicorn_server import serving

PICTURE = {"instruction": "go", "image": of_one_colour(255, 0, 0), "seed": 0}
YEAR_S = 365 * 24 * 3600.0


@pytest.mark.parametrize("jump_s", [YEAR_S, -YEAR_S], ids=["forward", "back"])
def test_a_jump_of_the_clock_ends_no_session_and_no_connection(tmp_path, monkeypatch, jump_s):
    with serving(echo_app(cache_dir=tmp_path)) as url, httpx.Client(base_url=url) as client:
        wait_until_healthy(url)
        first = client.post("/predict", json={**PICTURE, "session_id": "arm", "return_token": True}).json()
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + jump_s)
        assert client.post("/predict", json={**PICTURE, "session_id": "arm"}).json()["session"]["step"] == 1
        assert client.get("/sessions").json()["sessions"][0]["idle_s"] < 60
        assert client.delete("/sessions/arm").status_code == 200
        # A token is only as good as the clock by which it was dated.
        resumed = client.post("/predict", json={**PICTURE, "session_token": first["session"]["token"]})
        assert resumed.status_code == (422 if jump_s > 0 else 200)
