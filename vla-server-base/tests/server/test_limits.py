"""What a client may send and leave unsaid, and for how long: each kind by a socket of its own, on a live server."""

import json
import resource
import select
import time
from contextlib import ExitStack, suppress

import httpx
import pytest
import websockets.exceptions
from echo_server import echo_app, of_one_colour, wait_until, wait_until_healthy
from raw_socket import connected, error_of, head, post, rest_of, status_of
from websockets.sync.client import connect

from vla_server_base.server.sockets import MAX_HEAD_BYTES, MAX_HEADERS
from vla_server_base.server.uvicorn_server import serving

REQUEST = {"instruction": "go", "image": of_one_colour(255, 0, 0), "seed": 0}
CHUNKED = post("/predict", 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")


@pytest.fixture(scope="module")
def impatient():
    """A server that waits for nothing long, and has little room."""
    limits = {"head_timeout_s": 1, "body_timeout_s": 1, "reader_timeout_s": 1, "max_body_mb": 2, "max_bodies_mb": 5}
    with serving(echo_app(**limits)) as url:
        wait_until_healthy(url)
        yield url


@pytest.fixture(scope="module")
def roomless():
    """A server that waits for long, and has little room."""
    with serving(echo_app(max_body_mb=2, max_bodies_mb=5)) as url:
        wait_until_healthy(url)
        yield url


TOO_LONG = [
    head("GET /live HTTP/1.1", "X: " + "a" * MAX_HEAD_BYTES),
    head("GET /live?" + "a" * MAX_HEAD_BYTES + " HTTP/1.1"),
    head("GET /live HTTP/1.1", *(f"X-{index}: {'a' * 1000}" for index in range(70))),
    head("GET /live HTTP/1.1", *(f"X-{index}: a" for index in range(MAX_HEADERS + 1))),
    head("GET /live HTTP/1.1", "X" * MAX_HEAD_BYTES + ": a"),
    # A trailer, and a chunk's extension, are as long as a header may be.
    CHUNKED + b"1\r\na\r\n0\r\nX: " + b"a" * 3 * MAX_HEAD_BYTES + b"\r\n\r\n",
    CHUNKED + b"1;x=" + b"a" * 3 * MAX_HEAD_BYTES + b"\r\na\r\n0\r\n\r\n",
]


@pytest.mark.parametrize(
    "request_", TOO_LONG, ids=["header", "address", "headers", "number", "name", "trailer", "chunk"]
)
def test_a_head_that_is_too_long_is_refused_with_431(url, request_):
    with connected(url) as wire:
        wire.sendall(request_)
        answer = rest_of(wire)
    assert status_of(answer) == 431
    assert error_of(answer)["code"] == "head_too_large"
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_a_client_that_sends_a_head_without_end_hears_the_refusal(loop, http):
    with serving(echo_app(), loop=loop, http=http) as url, connected(url) as wire:
        wire.sendall(b"GET /live HTTP/1.1\r\nHost: robot\r\nX: ")
        for _ in range(200):
            wire.sendall(b"a" * 2**18)
        assert status_of(wire.recv(100)) == 431
        assert httpx.get(f"{url}/live").status_code == 200


def test_what_is_not_http_is_refused_in_the_form_of_all_errors(url):
    with connected(url) as wire:
        wire.sendall(b"\x00\x01\x02 nothing of the kind\r\n\r\n")
        answer = rest_of(wire)
    assert status_of(answer) == 400
    assert error_of(answer)["code"] == "malformed"


SOCKET = head(
    "GET / HTTP/1.1",
    *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def test_requests_are_not_sent_ahead_of_their_answers_without_end(url):
    with connected(url) as wire, pytest.raises(ConnectionError):
        wire.sendall(head("GET /live HTTP/1.1") * 1_000_000)


def test_a_body_in_thousands_of_small_chunks_is_refused(url):
    with connected(url) as wire:
        wire.sendall(CHUNKED + b"1\r\na\r\n" * 100_000)
        answer = rest_of(wire)
    assert error_of(answer)["message"] == "the body comes in too many small chunks"


@pytest.mark.parametrize("frame", [b"\x00\x80abcd", b"\x89\x80abcd", b"\x8a\x80abcd", b"\x81\x81abcdx"])
def test_a_websocket_with_thousands_of_small_frames_is_closed(url, frame):
    with connected(url) as wire:
        wire.sendall(SOCKET)
        wire.recv(2**12)
        wire.sendall(b"\x02\x80abcd" * (frame[0] == 0) + frame * 200_000)
        assert (1008).to_bytes(2, "big") + b"too many small frames" in rest_of(wire)


def test_a_body_in_small_chunks_is_read(url):
    body = json.dumps(REQUEST).encode().ljust(1000)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body[:500]) + b"1f4\r\n" + body[500:] + b"\r\n0\r\n\r\n"
    with connected(url) as wire:
        wire.sendall(CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + chunks)
        assert status_of(rest_of(wire)) == 200


def test_requests_in_one_piece_with_a_large_body_are_all_answered(url):
    body = json.dumps({**REQUEST, "instruction": "go"}).encode()
    body += b" " * (300_000 - len(body))
    with connected(url) as wire:
        wire.sendall((post("/predict", len(body)) + body) * 3 + head("GET /live HTTP/1.1", "Connection: close"))
        answer = rest_of(wire)
    assert answer.count(b"HTTP/1.1 200 OK") == 4


def test_a_head_that_does_not_come_in_time_is_refused_with_408(impatient):
    with connected(impatient) as wire:
        wire.sendall(b"GET /live HTTP/1.1\r\nHost: rob")
        answer = rest_of(wire)
    assert status_of(answer) == 408
    assert error_of(answer)["code"] == "request_timeout"


def test_a_head_that_comes_byte_by_byte_is_refused_all_the_same(impatient, monkeypatch):
    monkeypatch.setattr("vla_server_base.server.sockets._LINGER_S", 0.5)
    with connected(impatient) as wire, suppress(ConnectionError):
        for byte in head("GET /live HTTP/1.1", "X: " + "a" * 1000):
            wire.sendall(bytes([byte]))
            time.sleep(0.05)
        pytest.fail("it may take as long as it likes")


@pytest.mark.parametrize("said", [b"", head("GET /live HTTP/1.1")])
def test_a_connection_on_which_nothing_is_said_is_closed(impatient, said):
    with connected(impatient) as wire:
        wire.sendall(said)
        answer = rest_of(wire)
    assert b"408" not in answer


@pytest.mark.parametrize("path", ["/predict", "/execute", "/act", "/reset"])
def test_a_body_of_which_no_more_comes_is_refused_with_408(impatient, path):
    with connected(impatient) as wire:
        wire.sendall(post(path, 1000) + b"{")
        answer = rest_of(wire)
    assert status_of(answer) == 408
    assert error_of(answer)["message"].startswith("the body did not come in time: 1 bytes in ")


def test_a_body_that_comes_byte_by_byte_is_refused_all_the_same(impatient):
    with connected(impatient) as wire:
        wire.sendall(post("/predict", 1000))
        with suppress(ConnectionError):
            for _ in range(200):
                wire.sendall(b" ")
                time.sleep(0.05)
        with suppress(ConnectionError):
            assert status_of(rest_of(wire)) == 408


def test_a_large_body_that_comes_at_its_rate_may_take_longer(impatient):
    body = json.dumps(REQUEST).encode().ljust(200_000)
    with connected(impatient) as wire:
        wire.sendall(post("/predict", len(body), "Connection: close"))
        for start in range(0, len(body), 50_000):
            wire.sendall(body[start : start + 50_000])
            time.sleep(0.5)
        assert status_of(rest_of(wire)) == 200


def test_bodies_together_have_a_limit_and_small_ones_get_in(roomless, monkeypatch):
    monkeypatch.setattr("vla_server_base.server.middleware._DRAIN_S", 0.5)
    with ExitStack() as stack:
        wires = [stack.enter_context(connected(roomless)) for _ in range(4)]
        for index, wire in enumerate(wires):
            wire.sendall(post("/predict", 2**21, f"X-Request-Id: big-{index}"))
            with suppress(ConnectionError):
                wire.sendall(b" " * (2**21 - 1000))
        answers = [httpx.post(f"{roomless}/predict", json=REQUEST).status_code for _ in range(5)]
        assert answers == [200] * 5
        # They are answered once they have been heard out.
        wait_until(lambda: len(select.select(wires, [], [], 1)[0]) >= 2)
        refused = select.select(wires, [], [], 0)[0]
        assert {error_of(rest_of(wire))["code"] for wire in refused} == {"overloaded"}


def test_a_client_that_does_not_read_its_answers_is_cut_off(impatient):
    with connected(impatient, SO_RCVBUF=4096) as wire, pytest.raises(ConnectionError):
        wire.sendall(head("GET /openapi.json HTTP/1.1") * 1_000_000)


def test_a_websocket_message_that_does_not_come_in_time_ends_the_connection(impatient):
    with connect(impatient.replace("http", "ws")) as socket_:
        socket_.recv()
        socket_.socket.sendall(b"\x82\xfe\x10\x00abcdefg")  # seven bytes of a frame of 4096
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            socket_.recv(timeout=30)
        assert socket_.protocol.close_rcvd.code == 1008
        assert "did not come in time" in socket_.protocol.close_rcvd.reason


def test_websocket_messages_count_among_the_bodies(roomless):
    with ExitStack() as stack:
        # In the middle of a frame the server hears no close frame, so those that it lets be wait for nothing.
        address = roomless.replace("http", "ws")
        sockets = [stack.enter_context(connect(address, close_timeout=0.1)) for _ in range(4)]
        for socket_ in sockets:
            socket_.recv()
            length = (2**21 - 100).to_bytes(8, "big")
            socket_.socket.sendall(b"\x82\xff" + length + bytes(4) + bytes(2**21 - 1000))
        assert httpx.post(f"{roomless}/predict", json=REQUEST).status_code == 200
        wait_until(lambda: any(socket_.protocol.close_rcvd for socket_ in sockets))
        assert {socket_.protocol.close_rcvd.code for socket_ in sockets if socket_.protocol.close_rcvd} == {1013}


def test_a_websocket_that_is_pinged_and_silent_stays_open(impatient):
    with connect(impatient.replace("http", "ws"), ping_interval=0.2) as socket_:
        socket_.recv()
        time.sleep(2.5)
        socket_.ping().wait(10)
        assert socket_.protocol.close_rcvd is None


def test_a_quiet_websocket_makes_way_for_another(monkeypatch):
    monkeypatch.setattr("vla_server_base.server.traffic._QUIET_S", 1.0)
    with serving(echo_app(max_connections=2)) as url, ExitStack() as stack:
        wait_until_healthy(url)
        quiet, busy = (stack.enter_context(connect(url.replace("http", "ws"))) for _ in range(2))
        for _ in range(10):
            time.sleep(0.25)
            busy.send(b"no observation")
            busy.recv()
        third = stack.enter_context(connect(url.replace("http", "ws")))
        assert third.recv()
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            [quiet.recv() for _ in range(2)]
        assert quiet.protocol.close_rcvd.code == 1013
        busy.send(b"no observation")
        assert busy.recv()
        with pytest.raises(websockets.exceptions.InvalidStatus, match="503"):
            connect(url.replace("http", "ws"))


def test_a_client_that_sends_much_costs_another_none_of_its_own(roomless):
    with ExitStack() as stack:
        other = stack.enter_context(connected(roomless))
        body = json.dumps(REQUEST).encode().ljust(2_000_000)
        other.sendall(post("/predict", len(body), "Connection: close") + body[:-1])
        for _ in range(4):
            wire = stack.enter_context(connected(roomless, at="127.0.0.2"))
            with suppress(ConnectionError):
                wire.sendall(post("/predict", 1_500_000) + b" " * 1_499_000)
        other.sendall(body[-1:])
        assert status_of(rest_of(other)) == 200


def test_silent_connections_lock_nobody_out():
    with serving(echo_app(max_sockets=20, max_connections=20)) as url, ExitStack() as stack:
        silent = [stack.enter_context(connected(url)) for _ in range(100)]
        assert httpx.get(f"{url}/live").status_code == 200
        assert silent[0].recv(1) == b"", "the idlest has made way"


def test_where_all_are_busy_one_more_is_refused_with_503():
    with serving(echo_app(max_sockets=8, max_connections=8)) as url, ExitStack() as stack:
        wait_until_healthy(url)
        for _ in range(8):
            wire = stack.enter_context(connected(url))
            wire.sendall(post("/predict", 1000))
        with connected(url) as wire:
            answer = rest_of(wire)
    assert status_of(answer) == 503
    assert "VLA_MAX_SOCKETS" in error_of(answer)["hint"]


def test_few_file_descriptors_are_kept_for_the_server(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    with serving(echo_app()) as url, ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connected(url))
        assert httpx.get(f"{url}/live").status_code == 200
