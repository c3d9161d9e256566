"""The log of a server in a process of its own: one line for each event, whatever a client sends."""

import json
import re
import socket

import httpx
import pytest
from all_protocols import PREDICT
from echo_server import DEADLINE_S, wait_until, wait_until_loaded
from test_uvicorn import SERVE, UVICORN, folder, running
from websockets.sync.client import connect

from vla_client.message_pack import pack

__all__ = ["folder"]

FAILING = """
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.program import app_for_uvicorn
from vla_server_base.testing import EchoAdapter

class Failing(EchoAdapter):
    def preprocess_observation(self, window, dataset=None):
        if dataset == "echo_doubled":
            raise ZeroDivisionError("first\\n2026-01-01 00:00:00,000 INFO forged\\x1b[31m")
        return super().preprocess_observation(window, dataset)

app = app_for_uvicorn(lambda config: create_vla_app(Failing(), config, model_id="failing"))
"""
EVIL = "a\n2026-01-01 00:00:00,000 INFO forged \x1b[2J\u2028\u0085"
LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR) [\w.]+ |    )")


def send_evil(url: str) -> None:
    """Send line breaks and terminal codes in every place that the log may show, and have the policy fail on it."""
    with httpx.Client(base_url=url, timeout=DEADLINE_S) as client:
        assert client.get("/a%0Ab%1B").status_code == 404
        assert client.post("/predict", json={**PREDICT, "dataset": EVIL}).status_code == 422
        assert client.post("/predict", json={**PREDICT, "dataset": "echo_doubled"}).status_code == 500
        client.post("/predict", json={**PREDICT, "session_id": "arm"}, headers={"X-Request-Id": "mine"})
    with connect(url.replace("http", "ws")) as robot:
        robot.recv()
        robot.send(pack({"endpoint": EVIL}))
        robot.recv()
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(b"GET /\x1b[2J HTTP/1.1\r\n\r\n")
        raw.recv(1000)


def lines_of_evil(folder, *command, **settings) -> list[str]:
    """The log of a server that was sent all this."""
    (folder / "echo_service.py").write_text(FAILING)
    with running(folder, *command, **settings) as (url, _, lines):
        wait_until_loaded(url)
        send_evil(url)
        wait_until(lambda: any("malformed" in line for line in lines))
        taken = list(lines)
        lines.clear()  # `running` takes a traceback for a failure of the server
    return taken


@pytest.mark.parametrize("command", [SERVE, UVICORN], ids=["serve", "uvicorn"])
def test_each_line_of_a_json_log_is_an_object_of_one_event(folder, command):
    events = [json.loads(line) for line in lines_of_evil(folder, *command, VLA_LOG_FORMAT="json")]
    assert all({"timestamp", "level", "logger", "message"} <= event.keys() for event in events)
    assert {event["logger"].partition(".")[0] for event in events} == {"uvicorn", "vla_server_base"}
    (mine,) = [event for event in events if event.get("request_id") == "mine"]
    assert (mine["client"], mine["session"], mine["protocol"]) == ("127.0.0.1", "arm", "http")
    (failure,) = [event for event in events if "exc_info" in event]
    assert "ZeroDivisionError: first\n2026" in failure["exc_info"]


def test_each_line_of_a_text_log_begins_as_one_and_holds_no_control_character(folder):
    lines = lines_of_evil(folder, *SERVE)
    assert not [line for line in lines if not LINE.match(line)]
    assert all(line.removesuffix("\n").isprintable() for line in lines)
    (mine,) = [line for line in lines if line.endswith("request_id=mine\n")]
    assert " session=arm " in mine
    assert sum("forged" in line for line in lines) >= 2
