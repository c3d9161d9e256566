"""Without keys a server listens on this machine alone, however it is started; the refusal names the way on."""

import os
import subprocess
import sys

import pytest
from echo_server import echo_app
from test_uvicorn import SERVE, SETTINGS, UVICORN, folder

from vla_server_base.access.binding import check_binding
from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.server.uvicorn_server import serving

__all__ = ["folder"]

LOOPBACK = ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "there.is.no.such.host.invalid"]
REACHED = ["0.0.0.0", "::", "", "192.0.2.7", "::ffff:192.0.2.7", "fe80::1%eth0"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_needs_no_key(host):
    check_binding(ServerConfig(), host)


@pytest.mark.parametrize("host", REACHED)
def test_beyond_this_machine_there_must_be_keys_or_leave(host):
    with pytest.raises(ConfigError) as refused:
        check_binding(ServerConfig(), host)
    for way_on in ("keys new", "VLA_KEYS_FILE", "127.0.0.1", "VLA_ALLOW_ANYONE=on"):
        assert way_on in refused.value.hint
    for config in (ServerConfig(allow_anyone=True), ServerConfig(api_keys="a=b"), ServerConfig(keys_file="keys.json")):
        check_binding(config, host)


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        (SERVE, {"VLA_HOST": "0.0.0.0"}),
        ((*UVICORN, "--host", "0.0.0.0"), {}),
        (UVICORN, {"VLA_HOST": "0.0.0.0", "VLA_ZMQ_PORT": "5555"}),
        (UVICORN, {"VLA_ZMQ_HOST": "0.0.0.0", "VLA_ZMQ_PORT": "5555"}),
    ],
    ids=["serve", "uvicorn", "zmq", "zmq alone"],
)
def test_the_start_is_refused_in_a_sentence(folder, command, environment):
    environment = {**os.environ, **SETTINGS, **environment}
    ended = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode != 0
    assert "lets everybody on the network move the robot" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_server_on_a_thread_is_refused_too():
    with pytest.raises(ConfigError), serving(echo_app(), host="0.0.0.0"):
        pass


@pytest.mark.parametrize(
    "settings", [{"keys_file": "/there/is/none.json"}, {"lerobot_key": "arm"}, {"api_keys": "nothing"}]
)
def test_keys_that_cannot_be_read_end_the_start(settings):
    with pytest.raises(ConfigError):
        echo_app(**settings)
