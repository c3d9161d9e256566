"""GR00T's and LeRobot's ports have limits as all others, and end with the server."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import msgpack
import pytest
import zmq
from echo_server import DEADLINE_S, echo_app, of_one_colour, wait_until, wait_until_healthy
from free_port import free_port
from raw_socket import connected, rest_of
from test_shutdown import SLOW
from test_uvicorn import SERVE, folder, running

from vla_server_base.protocols import lerobot
from vla_server_base.server.uvicorn_server import serving

__all__ = ["folder"]


@pytest.fixture(scope="module")
def ports():
    zmq_port, lerobot_port = free_port(), free_port()
    limits = {"head_timeout_s": 1, "body_timeout_s": 1}
    with serving(echo_app(zmq_port=zmq_port, lerobot_port=lerobot_port, **limits)) as url:
        wait_until_healthy(url)
        yield zmq_port, lerobot_port


def test_what_says_nothing_is_let_go(ports):
    for port in ports:
        with connected(f"http://127.0.0.1:{port}") as wire:
            rest_of(wire)


def test_an_observation_of_which_no_more_comes_is_refused(ports):
    def chunks():
        yield b"\x08\x01\x12\x04abcd"
        time.sleep(5)

    with grpc.insecure_channel(f"127.0.0.1:{ports[1]}") as channel:
        observe = channel.stream_unary(f"/{lerobot.SERVICE}/SendObservations")
        with pytest.raises(grpc.RpcError) as refused:
            observe(chunks(), timeout=30)
    assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "did not come in time" in refused.value.details()


def test_from_sigterm_on_nothing_new_begins_there_either(folder):
    (folder / "echo_service.py").write_text(SLOW)
    zmq_port, lerobot_port = free_port(), free_port()
    own = {"VLA_ZMQ_PORT": str(zmq_port), "VLA_LEROBOT_PORT": str(lerobot_port), "VLA_SHUTDOWN_GRACE_S": "50"}
    body = {"instruction": "go", "image": of_one_colour(255, 0, 0), "seed": 3000}
    with running(folder, *SERVE, **own) as (url, process, _), ThreadPoolExecutor() as threads:
        wait_until_healthy(url)
        answer = threads.submit(httpx.post, f"{url}/predict", json=body, timeout=DEADLINE_S)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{url}/health").status_code == 503)
        assert pinged(zmq_port)["error"].startswith("unavailable: the server is shutting down")
        with grpc.insecure_channel(f"127.0.0.1:{lerobot_port}") as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"/{lerobot.SERVICE}/Ready")(b"", timeout=30)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert answer.result().status_code == 200
        assert process.wait(DEADLINE_S) == 0


def pinged(port: int) -> dict:
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.set(zmq.LINGER, 0)
        socket.connect(f"tcp://127.0.0.1:{port}")
        socket.send(msgpack.packb({"endpoint": "ping"}))
        assert socket.poll(30_000), "no answer"
        return msgpack.unpackb(socket.recv())
