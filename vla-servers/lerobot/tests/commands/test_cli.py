"""What can be typed: the commands of every service, and `check`, which says whether a checkpoint can be served."""

import dataclasses
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lerobot_service.commands.options import COMMANDS
from lerobot_service.program import LEROBOT
from vla_server_base.commands.command_line import parse, run
from vla_server_base.errors import ModelUnavailable

SLOW = {"fastapi", "httpx", "lerobot", "numpy", "torch", "transformers", "uvicorn"}


def lerobot_service(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lerobot_service.cli", *map(str, arguments)]
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_nothing_that_takes_long(command: str):
    code = "import contextlib, sys; from lerobot_service.cli import main\n"
    code += "with contextlib.suppress(SystemExit): main()\n"
    code += "print('imported', *sys.modules)"
    script = [sys.executable, "-c", code, *command.split(), "--help"]
    shown = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert "usage: lerobot-service" in shown
    assert SLOW & set(shown.rpartition("imported ")[2].split()) == set()


def test_the_version_is_the_packages():
    assert lerobot_service("--version").stdout == f"lerobot-service {importlib.metadata.version('lerobot-service')}\n"


def test_a_setting_is_a_flag_and_a_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEROBOT_MODEL", "a-folder")
    monkeypatch.setenv("LEROBOT_TORCH_THREADS", "2")
    options = parse(LEROBOT, ["serve", "--torch-threads", "3", "--control-hz", "30"])
    assert (options.config.model, options.config.torch_threads, options.config.control_hz) == ("a-folder", 3, 30)


def test_every_setting_is_documented():
    page = (Path(__file__).parents[4] / "docs" / "lerobot.md").read_text()
    settings = [f"LEROBOT_{field.name.upper()}" for field in dataclasses.fields(LEROBOT.config)]
    assert re.findall(r"^\| `(LEROBOT_\w+)` \|", page, re.MULTILINE) == settings


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("serve", "--torch-threads", "0"), 2, "lerobot-service: --torch-threads=0 cannot be used"),
        (("serve", "--torch-threads", "1000000"), 2, "lerobot-service: --torch-threads=1000000 cannot be used"),
        (("check", "no/such/folder"), 1, "lerobot-service: there is no folder 'no/such/folder'; give one, or hf://"),
        (("predict", "--url", "http://127.0.0.1:9"), 1, "no policy server answers at http://127.0.0.1:9"),
        (("evaluate", "http://127.0.0.1:9"), 1, "no policy server answers at http://127.0.0.1:9"),
    ],
)
def test_what_goes_wrong_is_one_sentence(arguments: tuple[str, ...], code: int, says: str):
    result = lerobot_service(*arguments)
    assert result.returncode == code
    assert says in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("kind", ["act", "diffusion", "smolvla"])
def test_check_says_what_a_checkpoint_takes_and_that_it_answers_as_lerobot_does(
    kind: str, checkpoint, capsys: pytest.CaptureFixture
):
    run(LEROBOT, parse(LEROBOT, ["check", str(checkpoint(kind)), "--device", "cpu", "--seed", "7"]))
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert shown["cameras"].startswith("top 96x64, left_wrist ")
    assert "numbers: state_0, state_1" in shown["state"]
    assert "numbers: action_0, action_1" in shown["actions"]
    assert shown["equality"].startswith("bit for bit: ")


def test_check_refuses_a_checkpoint_without_its_weights(act_checkpoint: Path, tmp_path: Path):
    shutil.copytree(act_checkpoint, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match=r"model\.safetensors"):
        run(LEROBOT, parse(LEROBOT, ["check", str(tmp_path / "broken"), "--device", "cpu"]))
