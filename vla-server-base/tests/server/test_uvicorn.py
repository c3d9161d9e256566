"""The app under uvicorn's own command line, in a process of its own: it is the same server as under ours."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import httpx
import pytest
import websockets.sync.client
from echo_server import DEADLINE_S, answers, of_one_colour, wait_until, wait_until_loaded

MODULE = """
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.program import app_for_uvicorn
from vla_server_base.testing import EchoAdapter

app = app_for_uvicorn(lambda config: create_vla_app(EchoAdapter(), config, model_id="{model_id}"))
"""
OURS = """
from echo_service import app
from vla_server_base.errors import VLAError
from vla_server_base.server.program import serve

try:
    serve(app)
except VLAError as error:
    raise SystemExit(error.as_sentence())
"""
BROKEN = """
from vla_server_base.server.app import create_vla_app
from vla_server_base.errors import ModelUnavailable
from vla_server_base.server.program import app_for_uvicorn
from vla_server_base.testing import EchoAdapter

class Broken(EchoAdapter):
    def load_model(self, model_id, device, cache_dir):
        raise ModelUnavailable("the checkpoint is of another model", hint="name the right one")

app = app_for_uvicorn(lambda config: create_vla_app(Broken(), config, model_id="broken"))
"""
SETTINGS = {"VLA_SCENE_WORKERS": "1", "VLA_RENDERER": "raycast", "VLA_MAX_BODY_MB": "1", "VLA_PORT": "0"}
REQUEST = {"instruction": "go", "image": of_one_colour(255, 0, 0), "seed": 0}
UVICORN = ("-m", "uvicorn", "echo_service:app", "--port", "0")
SERVE = ("ours.py",)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "echo_service.py").write_text(MODULE.format(model_id="echo"))
    (tmp_path / "ours.py").write_text(OURS)
    return tmp_path


@contextmanager
def running(folder, *command, **environment):
    """Run a server, and give its URL, its process and the lines of its log; it is interrupted as by Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **SETTINGS, **environment},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stderr.readline, "")))
    reader.start()
    try:
        wait_until(lambda: process.poll() is not None or "http://" in "".join(lines))
        base_url = re.search(r"http://[\d.:]+", "".join(lines))
        assert base_url, "".join(lines)
        yield base_url.group(), process, lines
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE_S)
        assert "Traceback" not in "".join(lines)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        reader.join()
        process.stderr.close()


def ended(folder, *command, **environment) -> subprocess.CompletedProcess[str]:
    """What became of a server that cannot start."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **SETTINGS, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_app_runs_on_both_loops_and_ends_on_ctrl_c(folder, loop):
    with running(folder, *UVICORN, "--loop", loop) as (base_url, process, _):
        wait_until_loaded(base_url)
        answer = httpx.post(f"{base_url}/predict", json=REQUEST)
        assert answer.json()["action"][:3] == [1.0, 0.0, 0.0]
    assert process.returncode == 0


def test_the_app_reloads_when_its_code_changes(folder):
    with running(folder, *UVICORN, "--reload", "--loop", "asyncio") as (base_url, _, _):
        wait_until_loaded(base_url)
        (folder / "echo_service.py").write_text(MODULE.format(model_id="after"))
        wait_until(lambda: (info := answers(f"{base_url}/info")) and info.json()["model"] == "after")
        wait_until_loaded(base_url)
        assert httpx.post(f"{base_url}/predict", json=REQUEST).json()["model"] == "after"


@pytest.mark.parametrize("command", [UVICORN, SERVE, (*UVICORN, "--ws", "none")])
def test_however_it_is_started_it_is_the_same_server(folder, command):
    with running(folder, *command) as (base_url, _, lines):
        wait_until_loaded(base_url)
        httpx.get(f"{base_url}/live", headers={"X-Request-Id": "look-for-me"})
        with websockets.sync.client.connect(base_url.replace("http", "ws"), max_size=None) as socket_:
            assert not socket_.protocol.extensions  # pictures are not deflated in vain
            socket_.recv()
            with contextlib.suppress(websockets.exceptions.ConnectionClosed):
                socket_.send(bytes(2**21))
                socket_.recv()
        closed = socket_.protocol.close_rcvd
        wait_until(lambda: any("look-for-me" in line for line in lines))
    assert closed.code == 1009
    assert closed.reason
    (line,) = [line for line in lines if "/live" in line]
    assert re.match(
        r"[\d-]+ [\d:,]+ INFO vla_server_base.server.middleware method=GET path=/live status=200 .*"
        r" client=127.0.0.1 request_id=look-for-me$",
        line,
    )
    assert all(re.match(r"[\d-]{10} [\d:,]{12} [A-Z]+ ", line) for line in lines)


@pytest.mark.parametrize("command", [UVICORN, SERVE])
@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"VLA_PORT": "99999"}, "VLA_PORT='99999' cannot be used"),
        ({"VLA_OBSERVATION_KEYS": "primary"}, "VLA_OBSERVATION_KEYS"),
    ],
)
def test_a_setting_that_cannot_be_ends_the_start_with_a_sentence(folder, command, environment, says):
    result = ended(folder, *command, **environment)
    assert result.returncode == 3
    assert len(result.stderr.splitlines()) == 1
    assert says in result.stderr


@pytest.mark.parametrize("setting", ["VLA_PORT", "VLA_ZMQ_PORT", "VLA_LEROBOT_PORT"])
def test_a_port_in_use_is_said_in_a_sentence(folder, setting):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        result = ended(folder, *SERVE, **{setting: str(listener.getsockname()[1])})
    assert result.returncode == 3
    assert "cannot listen on" in result.stderr
    assert setting in result.stderr
    assert "Traceback" not in result.stderr


def test_under_uvicorn_its_own_port_counts(folder):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with running(folder, *UVICORN, VLA_PORT=str(port)) as (base_url, _, _):
            assert answers(f"{base_url}/live")
        result = ended(folder, *UVICORN[:-1], str(port))
    assert result.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in result.stderr


@pytest.mark.parametrize(
    ("command", "environment"),
    [((*UVICORN, "--workers", "2"), {}), (UVICORN, {"WEB_CONCURRENCY": "2"}), (SERVE, {"WEB_CONCURRENCY": "2"})],
)
def test_several_worker_processes_are_refused(folder, command, environment):
    result = ended(folder, *command, **environment)
    assert result.returncode != 0
    assert "2 worker processes were started, but sessions are not shared between processes" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [UVICORN, (*UVICORN, "--loop", "uvloop"), SERVE])
def test_a_model_that_cannot_be_loaded_ends_the_process(folder, command):
    (folder / "echo_service.py").write_text(BROKEN)
    result = ended(folder, *command)
    assert result.returncode == 3
    assert (
        "ERROR vla_server_base.engine.loading model broken is not available: the checkpoint is of another"
        in result.stderr
    )
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [UVICORN, SERVE])
def test_or_the_server_stays_by_setting_and_is_not_live(folder, command):
    (folder / "echo_service.py").write_text(BROKEN)
    with running(folder, *command, VLA_ON_LOAD_FAILURE="stay") as (base_url, process, _):
        wait_until(lambda: httpx.get(f"{base_url}/live").status_code == 503)
        assert process.poll() is None
    assert process.returncode == 0
