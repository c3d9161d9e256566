"""What the log says of what is refused: one line each, with the reason, the code and the request's id."""

import threading

import httpx
import pytest
import websockets.exceptions
from echo_server import echo_app, of_one_colour, wait_until, wait_until_loaded
from test_execute import EPISODE, streamed
from websockets.sync.client import connect

from vla_server_base.errors import ProtocolError
from vla_server_base.server.error_replies import reason_of
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter

RED = of_one_colour(255, 0, 0)


@pytest.fixture
def lines(log_lines):
    """Wait until there are lines in the log about something, and return them."""

    def lines_once_written(text: str) -> list[str]:
        wait_until(lambda: log_lines(text))  # the line is written when the answer has left
        return log_lines(text)

    return lines_once_written


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "reason"),
    [
        ("POST", "/act", {"instruction": "go"}, "protocol", "there is no image for the camera 'primary'"),
        ("POST", "/predict", {"instruction": "go"}, "invalid_request", "exactly one of"),
        ("POST", "/predict", {"instruction": " ", "image": RED}, "instruction", "the instruction is empty"),
        ("POST", "/predict", {"image": "x" * 2**20}, "body_too_large", "the body is over this server's limit"),
        (
            "POST",
            "/predict",
            {"instruction": "go", "image": RED, "deadline_ms": 1e-6},
            "deadline_exceeded",
            "no answer within",
        ),
        ("POST", "/execute", {**EPISODE, "robot": "ur5e"}, "scene_invalid", ""),
        ("PUT", "/predict", {}, "method_not_allowed", "/predict does not accept PUT"),
        ("GET", "/nowhere", {}, "not_found", "there is nothing at /nowhere"),
        ("DELETE", "/sessions/none", {}, "not_found", "there is no session 'none'"),
    ],
)
def test_a_request_that_is_refused_is_one_line_with_the_reason(client, lines, method, path, body, code, reason):
    request_id = f"refused-{code}-{path.strip('/').replace('/', '.')}"
    client.request(method, path, json=body, headers={"X-Request-Id": request_id})
    (line,) = lines(f"request_id={request_id}")
    assert f' code={code} reason="' in line
    assert reason in line


def test_an_episode_that_fails_in_its_midst_says_why(lines):
    class Failing(EchoAdapter):
        def postprocess_action(self, chunk, dataset, action_format):
            action = super().postprocess_action(chunk, dataset, action_format)
            if threading.current_thread() is not threading.main_thread() and self.num_left == 0:
                raise ProtocolError("no more actions", hint="reset")
            self.num_left -= 1
            return action

        num_left = 2

    with serving(echo_app(Failing())) as url, httpx.Client(base_url=url, timeout=60) as client:
        wait_until_loaded(url)
        name, error = streamed(client)[-1]
    assert (name, error["error"]["code"]) == ("error", "protocol")
    (line,) = lines(f"request_id={error['request_id']}")
    assert "status=200" in line
    assert 'code=protocol reason="no more actions" request_id=' in line


def test_a_line_has_the_id_of_its_request_once(client, lines):
    client.get("/nowhere", headers={"X-Request-Id": "only-once"})
    (line,) = lines("only-once")
    assert line.count("only-once") == 1


def test_a_request_that_is_answered_has_no_reason(client, lines):
    client.get("/live", headers={"X-Request-Id": "answered"})
    (line,) = lines("request_id=answered")
    assert line.endswith("client=127.0.0.1 request_id=answered")


def test_a_frame_that_is_refused_is_one_line(url, lines):
    with connect(url.replace("http", "ws", 1)) as socket:
        socket.recv()
        socket.send("hello\n")
        request_id = str(socket.recv()).rpartition("request_id ")[2].rstrip(")")
        (line,) = lines(f"request_id={request_id}")
        assert line.startswith("socket path=/ client=127.0.0.1 session=socket:")
        assert ' code=protocol reason="' in line


def test_a_frame_over_the_limit_is_one_line(url, lines):
    with connect(url.replace("http", "ws", 1)) as socket:
        socket.recv()
        socket.send(bytes(2**20 + 1))
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            socket.recv(timeout=30)
    assert lines("code=body_too_large")


def test_a_handshake_that_is_refused_is_one_line(url, lines):
    with pytest.raises(websockets.exceptions.InvalidStatus):
        connect(url.replace("http", "ws", 1) + "/no%0Awhere", additional_headers={"X-Request-Id": "shaken"})
    (line,) = lines("request_id=shaken")
    assert line.startswith("socket path=/no%0Awhere client=127.0.0.1 status=404 ")
    assert r'reason="there is no WebSocket at /no\nwhere"' in line


def test_what_a_client_sends_neither_breaks_a_line_nor_fills_the_log():
    said = reason_of(ProtocolError("one\nrequest_id=2\r\x1b[31m\u2028\ud800" + "x" * 10_000, hint="send one line"))
    assert said.isprintable()
    assert r"one\nrequest_id=2\r\x1b[31m\u2028\ud800" in said
    assert len(said) < 600


def test_the_traceback_of_a_policy_that_fails_has_the_request_s_id(log_lines):
    class Faulty(EchoAdapter):
        def predict(self, batch):
            if any(policy_input.seed == 13 for policy_input in batch):
                raise ZeroDivisionError("secret inner workings")
            return super().predict(batch)

    with serving(echo_app(Faulty())) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_loaded(url)
        body = {"instruction": "go", "image": RED, "seed": 13}
        headers = {"X-Request-Id": "unlucky"}
        assert client.post("/predict", json=body, headers=headers).status_code == 500
        body["session_id"] = "arm"
        assert client.post("/predict", json=body, headers={"X-Request-Id": "unlucky-too"}).status_code == 500
    lines = log_lines("the policy failed on a request")
    assert [line.partition("\n")[0] for line in lines] == [
        "the policy failed on a request request_id=unlucky",
        "the policy failed on a request request_id=unlucky-too",
    ]
    assert all("ZeroDivisionError: secret inner workings" in line for line in lines)
