"""How a server starts, and why it does not: by our command and by uvicorn's, in processes of their own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from policy_server import free_port
from tiny_checkpoint import tiny_files
from vocabulary import train_vocabulary

from vla_server_base.testing.small_hub import SmallHub

SERVE = ("-m", "octo_service.cli", "serve")
UVICORN = ("-m", "uvicorn", "octo_service.main:app")
SETTINGS = {"VLA_DEVICE": "cpu", "VLA_SCENE_WORKERS": "1", "VLA_RENDERER": "raycast", "NO_PROXY": "127.0.0.1"}


@contextlib.contextmanager
def running(folder: Path, *command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a server until the end of the `with` block, if it does not end before."""
    settings = {**os.environ, **SETTINGS, "VLA_CACHE_DIR": str(folder / "cache"), **environment}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([sys.executable, *command], cwd=folder, env=settings, stderr=log, text=True) as server,
    ):
        try:
            yield server
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGINT)


def health(port: int) -> dict:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as reply:
            return json.load(reply)
    except urllib.error.HTTPError as reply:
        return json.load(reply)
    except OSError:
        return {"status": "not there yet", "reason": ""}


@pytest.mark.parametrize("command", [SERVE, (*UVICORN, "--port", "0")], ids=["serve", "uvicorn"])
@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"OCTO_MODEL": "no/such/folder"}, "there is no folder 'no/such/folder'"),
        ({"OCTO_MODEL": "bundled://tabletop", "OCTO_TOKENIZER": "no/such/file"}, "OCTO_TOKENIZER"),
    ],
)
def test_what_cannot_be_loaded_ends_the_process(
    tmp_path: Path, command: tuple[str, ...], environment: dict[str, str], says: str
):
    with running(tmp_path, *command, **{"VLA_PORT": "0", **environment}) as server:
        assert server.wait(120) == 3
    (line,) = [line for line in (tmp_path / "log").read_text().splitlines() if " ERROR " in line]
    assert says in line
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_hub_that_does_not_answer_is_asked_again_until_it_does(tmp_path: Path):
    vocabulary = tmp_path / "spiece.model"
    vocabulary.write_bytes(train_vocabulary())
    port = free_port()
    with SmallHub() as hub:
        hub.add("lab/octo", tiny_files())
        hub.faults.status = 503
        environment = {"OCTO_MODEL": "hf://lab/octo", "OCTO_TOKENIZER": str(vocabulary)}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub")}
        with running(tmp_path, *UVICORN, "--port", str(port), **environment):
            wait_for(lambda: "the next try is at" in health(port).get("reason", ""))
            assert health(port)["status"] == "loading"
            hub.faults.status = None
            wait_for(lambda: health(port)["status"] == "healthy")
    assert "trying again in 1 s" in (tmp_path / "log").read_text()


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
