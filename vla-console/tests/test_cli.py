"""The command line of `vla-console`."""

import argparse
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from programs import console_program
from small_server import small_server

from vla_console import __version__
from vla_console.cli import server_url

PROGRAM = Path(sys.executable).with_name("vla-console")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://gpu-box:8002", "http://gpu-box:8002"),
        ("http://gpu-box:8002/", "http://gpu-box:8002"),
        ("https://vla.lab.example/robot-1/", "https://vla.lab.example/robot-1"),
        ("gpu-box:8002", "http://gpu-box:8002"),
        ("http://[::1]:8002", "http://[::1]:8002"),
    ],
)
def test_a_server_is_given_by_its_address(given: str, url: str):
    assert server_url(given) == url


@pytest.mark.parametrize(
    "given", ["ws://gpu-box:8002", "http://", "http://a:port", "http://a:0", "http://a/?b", "http://[a"]
)
def test_what_is_not_an_address_is_refused(given: str):
    with pytest.raises(argparse.ArgumentTypeError, match="is not the address of a server, such as http://gpu-box:8002"):
        server_url(given)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: URL"),
        (["ftp://a"], "'ftp://a' is not the address of a server, such as http://gpu-box:8002"),
        (["a", "--port", "65536"], "expected a port from 0 to 65535, got '65536'"),
    ],
    ids=str,
)
def test_a_wrong_command_line_ends_with_a_sentence(arguments: list[str], sentence: str):
    result = run(*arguments)
    assert result.returncode == 2
    assert sentence in result.stderr


def test_a_port_in_use_ends_with_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as used:
        result = run("gpu-box:8002", "--port", str(used.getsockname()[1]))
    assert result.returncode == 1
    assert "Address already in use; choose another port with --port, 0 takes a free one" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_its_version_is_that_of_the_package():
    assert run("--version").stdout == f"vla-console {__version__}\n"


def test_ctrl_c_ends_it_while_events_are_read():
    with (
        small_server() as server,
        console_program(server.url) as (url, process),
        httpx.stream("GET", f"{url}/servers/0/events", timeout=60) as response,
    ):
        assert next(response.iter_lines()) == "data: first"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
