"""The HTTP client of a policy server, against a server and against what is not one."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vla_server_base.config import ServerConfig
from vla_server_base.episodes import PolicyServer
from vla_server_base.errors import ModelUnavailable, RequestError, Unavailable
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter

pytestmark = pytest.mark.anyio

IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mM4oaGBFTEMLQkAgl1GARdiiXUAAAAASUVORK5CYII="


@pytest.fixture(scope="module")
def url():
    config = ServerConfig(renderer="raycast", scene_workers=1)
    with serving(create_vla_app(EchoAdapter(), config, model_id="echo")) as address:
        yield address


class BrokenEcho(EchoAdapter):
    """A policy that cannot be loaded."""

    def load_model(self, model_id, device, cache_dir):
        raise ModelUnavailable("the weights are missing", hint="download them")


@contextmanager
def other_server(status: int, body: bytes) -> Iterator[str]:
    """A web server of another kind, which answers everything alike."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-"):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def test_a_healthy_server_tells_its_policy_and_predicts(url):
    async with PolicyServer(url + "/") as server:
        await server.wait_until_healthy()
        assert (await server.info())["window"] == EchoAdapter().spec.window
        reply = await server.predict({"image": IMAGE, "instruction": "lift it", "seed": 3})
    assert (reply["model"], reply["seed"]) == ("echo", 3)


async def test_a_refusal_keeps_the_servers_message_and_hint(url):
    async with PolicyServer(url) as server:
        await server.wait_until_healthy()
        with pytest.raises(RequestError, match="dataset 'moon' is not known") as raised:
            await server.predict({"image": IMAGE, "instruction": "lift it", "dataset": "moon"})
    assert "echo" in raised.value.hint


async def test_a_policy_that_cannot_be_loaded_is_unavailable_with_the_reason():
    config = ServerConfig(renderer="raycast", scene_workers=1, on_load_failure="stay")
    with serving(create_vla_app(BrokenEcho(), config, model_id="echo")) as url:
        async with PolicyServer(url) as server:
            with pytest.raises(Unavailable, match="the weights are missing"):
                await server.wait_until_healthy()
            with pytest.raises(Unavailable, match=r"is not loaded \(the weights are missing"):
                await server.info()


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [(200, b"<html>", "it answers 200"), (404, b"{}", "it answers 404"), (200, b"{}", "its reply has no 'policy'")],
)
async def test_a_server_of_another_kind_is_not_a_policy_server(status, body, reason):
    with other_server(status, body) as url:
        async with PolicyServer(url) as server:
            with pytest.raises(Unavailable, match=f"no policy server answers at {url} .{reason}") as raised:
                await server.info()
    assert "octo-service serve" in raised.value.hint


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "127.0.0.1:8002", "http://["])
async def test_an_address_without_a_server_is_unavailable(url):
    with pytest.raises(Unavailable, match="no policy server answers at"):
        async with PolicyServer(url) as server:
            await server.info()


@contextmanager
def server_without_room(num_refusals: int) -> Iterator[tuple[str, list[str]]]:
    """A server that is full for so many requests; the list gets the class of each."""
    classes: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            classes.append(self.headers["X-Priority"])
            self.rfile.read(int(self.headers["Content-Length"]))
            is_full = len(classes) <= num_refusals
            error = {"error": {"code": "overloaded", "message": "full", "hint": "wait"}}
            body = json.dumps(error if is_full else {"model": "echo"}).encode()
            self.send_response(503 if is_full else 200)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-"):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", classes
        finally:
            server.shutdown()
            thread.join()


async def test_an_evaluations_request_is_sent_again_until_there_is_room():
    with server_without_room(2) as (url, classes):
        async with PolicyServer(url, "batch") as server:
            assert (await server.predict({}))["model"] == "echo"
    assert classes == ["batch"] * 3


async def test_a_robots_request_is_not_sent_again_by_itself():
    with server_without_room(1) as (url, classes):
        async with PolicyServer(url) as server:
            with pytest.raises(Unavailable, match="full"):
                await server.predict({})
    assert classes == ["robot"]
