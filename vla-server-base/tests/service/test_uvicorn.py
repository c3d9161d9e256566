"""The app under uvicorn's own command line, in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import httpx
import pytest
from echo_server import DEADLINE_S, answers, of_one_colour, wait_until, wait_until_loaded

MODULE = """
from vla_server_base.app import create_vla_app
from vla_server_base.config import ServerConfig
from vla_server_base.testing import EchoAdapter

app = create_vla_app(EchoAdapter(), ServerConfig(scene_workers=1), model_id="{model_id}")
"""
REQUEST = {"instruction": "go", "image": of_one_colour(255, 0, 0), "seed": 0}


@contextmanager
def uvicorn_running(folder, *arguments):
    """Run `uvicorn echo_service:app` and give its URL and process; it is interrupted as by Ctrl-C."""
    command = [sys.executable, "-m", "uvicorn", "echo_service:app", "--port", "0", *arguments]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stderr.readline, "")))
    reader.start()
    try:
        wait_until(lambda: process.poll() is not None or "http://" in "".join(lines))
        base_url = re.search(r"http://[\d.:]+", "".join(lines))
        assert base_url, "".join(lines)
        yield base_url.group(), process
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE_S)
        assert "Traceback" not in "".join(lines)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        reader.join()
        process.stderr.close()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_app_runs_on_both_loops_and_ends_on_ctrl_c(tmp_path, loop):
    (tmp_path / "echo_service.py").write_text(MODULE.format(model_id="echo"))
    with uvicorn_running(tmp_path, "--loop", loop) as (base_url, process):
        wait_until_loaded(base_url)
        answer = httpx.post(f"{base_url}/predict", json=REQUEST)
        assert answer.json()["action"][:3] == [1.0, 0.0, 0.0]
    assert process.returncode == 0


def test_the_app_reloads_when_its_code_changes(tmp_path):
    module = tmp_path / "echo_service.py"
    module.write_text(MODULE.format(model_id="before"))
    with uvicorn_running(tmp_path, "--reload", "--loop", "asyncio") as (base_url, _):
        wait_until_loaded(base_url)
        module.write_text(MODULE.format(model_id="after"))
        wait_until(lambda: (info := answers(f"{base_url}/info")) and info.json()["model"] == "after")
        wait_until_loaded(base_url)
        assert httpx.post(f"{base_url}/predict", json=REQUEST).json()["model"] == "after"
