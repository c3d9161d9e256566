"""A page of another origin, at each route that there is now: those of the description, and those beside it."""

import httpx
import pytest
from echo_server import echo_app, wait_until_loaded

from vla_server_base.server.uvicorn_server import serving

UNDESCRIBED = [("get", path) for path in ("/", "/docs", "/redoc", "/openapi.json", "/metrics", "/console/console.js")]
FOREIGN = {"Origin": "https://attacker.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}


@pytest.fixture(scope="module")
def client():
    with serving(echo_app()) as url, httpx.Client(base_url=url) as client:
        wait_until_loaded(url)
        yield client


def test_every_route_refuses_a_page_of_another_origin(client):
    paths = client.get("/openapi.json").json()["paths"]
    described = [(method, path) for path, operations in paths.items() for method in operations]
    assert ("post", "/predict") in described
    for method, path in described + UNDESCRIBED:
        for name, value in {**FOREIGN, "Host": "attacker.example"}.items():
            if name != "Sec-Fetch-Mode":
                refused = client.request(method, path, headers={name: value})
                assert (refused.status_code, refused.headers.get("access-control-allow-origin")) == (403, None), path
