"""A port that the servers of one application share, and no other program gets."""

import multiprocessing
import socket

import pytest
from free_port import free_port

from vla_server_base.config import ConfigError
from vla_server_base.fleet.shared_port import SharedPort


@pytest.fixture
def port() -> int:
    return free_port()


def listening(port: int, application: str) -> SharedPort:
    shared = SharedPort("127.0.0.1", port, application)
    shared.socket.listen()
    return shared


def test_servers_of_one_application_share_it(port):
    first, second = listening(port, "octo"), listening(port, "octo")
    first.socket.close()
    with socket.create_connection(("127.0.0.1", port)):
        second.socket.accept()[0].close()
    second.socket.close()


def test_another_application_is_refused_until_the_first_has_ended(port):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold, args=(port, theirs))
    process.start()
    assert ours.recv() == "listens"
    with pytest.raises(ConfigError, match=r"another application's servers \(octo\)"):
        SharedPort("127.0.0.1", port, "lerobot")
    process.kill()
    process.join()
    listening(port, "lerobot").socket.close()


def hold(port: int, pipe) -> None:
    shared = listening(port, "octo")
    pipe.send("listens")
    pipe.recv()
    shared.socket.close()


def test_a_port_of_another_program_is_refused(port):
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ConfigError, match="cannot listen"):
        SharedPort("127.0.0.1", port, "octo")
