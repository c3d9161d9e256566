"""What can be typed: help that is there at once, the flags that a command reads, values that are refused."""

import importlib.metadata
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from octo_service.commands.options import COMMANDS
from octo_service.commands.options.convert import Convert
from octo_service.config import OctoConfig
from octo_service.program import OCTO
from vla_server_base.commands.command_line import parse
from vla_server_base.commands.options.demo import Demo
from vla_server_base.commands.options.serve import Serve
from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.errors import UsageError

HEAVY = {
    "PIL",
    "fastapi",
    "httpx",
    "huggingface_hub",
    "jax",
    "matplotlib",
    "mujoco",
    "numpy",
    "scipy",
    "starlette",
    "tqdm",
    "uvicorn",
}


def octo_service(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "octo_service.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def help_of(*command: str, capsys: pytest.CaptureFixture) -> str:
    with pytest.raises(SystemExit):
        parse(OCTO, [*command, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_nothing_that_takes_long(command: str):
    code = "import contextlib, sys; from octo_service.cli import main\n"
    code += "with contextlib.suppress(SystemExit): main()\n"
    code += "print('imported', *sys.modules)"
    script = [sys.executable, "-c", code, *command.split(), "--help"]
    shown = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert "usage: octo-service" in shown
    assert HEAVY & set(shown.rpartition("imported ")[2].split()) == set()


def test_the_version_is_the_packages():
    assert octo_service("--version").stdout == f"octo-service {importlib.metadata.version('octo-service')}\n"


@pytest.mark.parametrize(
    ("command", "read", "not_read"),
    [
        ("serve", ("--port", "--max-sessions", "--model"), ("--image",)),
        ("demo", ("--port", "--host", "--scene-shadows", "--model"), ("--image", "--url", "--max-sessions")),
        (
            "predict",
            ("--image", "--images", "--cameras", "--url", "--renderer"),
            ("--port", "--max-sessions", "--max-steps"),
        ),
        ("convert", ("--tokenizer", "--form"), ("--model", "--precision", "--device")),
        ("check", ("--tokenizer", "--goldens"), ("--model", "--precision", "--device")),
        ("evaluate", ("--dataset", "--precision", "--device", "--scene-workers"), ("--model", "--port", "--max-queue")),
        ("finetune", ("--device", "--steps", "--save-every"), ("--port", "--max-queue")),
    ],
)
def test_a_command_takes_the_options_that_it_reads(
    command: str, read: tuple[str, ...], not_read: tuple[str, ...], capsys: pytest.CaptureFixture
):
    options = set(help_of(command, capsys=capsys).replace("│", " ").split())
    assert set(read) <= options
    assert options.isdisjoint(not_read)


def test_serve_takes_every_setting_but_the_one_that_others_would_see(capsys: pytest.CaptureFixture):
    shown = help_of("serve", capsys=capsys)
    fields = (*ServerConfig.__dataclass_fields__, *OctoConfig.__dataclass_fields__)
    assert [name for name in fields if f"--{name.replace('_', '-')} " not in shown] == ["api_keys"]


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("", False),
        ("--scene-shadows", True),
        ("--scene-shadows TRUE", True),
        ("--scene-shadows 1", True),
        ("--scene-shadows false", False),
        ("--scene-shadows no", False),
    ],
)
def test_true_and_false_are_typed_as_in_the_environment(typed: str, value: bool):
    options = parse(OCTO, ["serve", *typed.split()])
    assert isinstance(options, Serve)
    assert options.server.scene_shadows is value


def test_a_flag_counts_more_than_the_environment_and_that_more_than_the_default(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VLA_PORT", "9000")
    monkeypatch.setenv("VLA_HOST", "0.0.0.0")
    monkeypatch.setenv("OCTO_MODEL", "bundled://tabletop")
    options = parse(OCTO, ["serve", "--port", "9001"])
    assert isinstance(options, Serve)
    assert (options.server.host, options.server.port) == ("0.0.0.0", 9001)
    assert options.config == OctoConfig(model="bundled://tabletop")


def test_the_demo_takes_a_free_port_unless_it_is_told_one(monkeypatch: pytest.MonkeyPatch):
    ports = []
    for arguments in (["demo"], ["demo", "--port", "9001"]):
        options = parse(OCTO, arguments)
        assert isinstance(options, Demo)
        ports.append(options.server.port)
    monkeypatch.setenv("VLA_PORT", "9000")
    options = parse(OCTO, ["demo"])
    assert isinstance(options, Demo)
    assert [*ports, options.server.port] == [0, 9001, 9000]


def test_a_setting_that_a_command_does_not_read_cannot_stop_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VLA_PORT", "many")
    assert isinstance(parse(OCTO, ["convert", "random://octo-tiny", "out"]), Convert)
    with pytest.raises(ConfigError, match="VLA_PORT='many'"):
        parse(OCTO, ["serve"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("finetune --out a --data b --steps 0", "--steps=0 cannot be used: Input should be greater"),
        ("finetune --out a --data b --learning-rate nan", "--learning-rate=nan cannot be used"),
        ("finetune --out a --data b --log-every 0", "--log-every=0 cannot be used"),
        ("evaluate bundled://tabletop --trials -1", "--trials=-1 cannot be used"),
        ("demonstrate --out a --workers 0", "--workers=0 cannot be used"),
        ("demonstrate --out a --policy-share 2", "--policy-share=2.0 cannot be used: Input should be less"),
        ("demo --max-steps 0", "--max-steps=0 cannot be used"),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_the_flag_takes(arguments: str, says: str):
    with pytest.raises(UsageError, match=says):
        parse(OCTO, arguments.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("demo", "--image", "a.png"), "Unrecognized options"),
        (("demo", "--scene-shadows", "maybe"), "expected true or false, got 'maybe'"),
        (("serve", "--port", "many"), "--port"),
        (("demo", "--max-steps", "0"), "octo-service: --max-steps=0 cannot be used"),
        (("predict", "--image", "a.png", "--scene", "panda/tabletop"), "--scene and --image cannot be combined"),
    ],
)
def test_what_is_typed_wrongly_ends_with_exit_code_2(arguments: tuple[str, ...], says: str):
    result = octo_service(*arguments)
    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("predict", "--image", "nothing.png"), "nothing.png: No such file or directory; check the path"),
        (("predict", "--image", "."), ".: Is a directory; name a file, not a folder"),
        (("predict", "--scene", "nothing.xml"), "nothing.xml: No such file or directory; check the path"),
        (("predict", "--scene", sys.executable), "is not text in UTF-8"),
        (("predict", "--url", "localhost:8002"), "such as http://127.0.0.1:8002"),
        (("predict", "--url", "http://["), "no policy server answers at"),
        (("predict", "--out", "/proc/out"), "/proc/out: No such file or directory"),
        (("convert", "nowhere", "out"), "there is no folder 'nowhere'"),
        (("check", "--goldens", "nowhere"), "there are no goldens in nowhere"),
        (("evaluate", "http://127.0.0.1:9"), "no policy server answers at http://127.0.0.1:9"),
        (("finetune", "--data", "nowhere", "--out", "out"), "nowhere holds no recorded episodes"),
        (("demonstrate", "--out", "/proc/out", "--tasks", "push_left_red"), "/proc/out: No such file or directory"),
    ],
)
def test_what_is_missing_is_one_sentence_and_exit_code_1(arguments: tuple[str, ...], says: str, tmp_path: Path):
    result = octo_service(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_a_server_that_is_not_ours_is_said_to_be_none(tmp_path: Path):
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split("(")[1].split("/)")[0]
            asked = octo_service("predict", "--url", url)
            evaluated = octo_service("evaluate", url)
        finally:
            server.terminate()
    assert f"no policy server answers at {url} (it answers 501); give the address" in asked.stderr
    assert f"no policy server answers at {url}" in evaluated.stderr
    assert (asked.returncode, evaluated.returncode) == (1, 1)


def test_the_demo_says_that_its_port_is_in_use(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = octo_service("demo", "--model", "random://octo-tiny", "--port", str(port), "--cache-dir", tmp_path)
    assert result.returncode == 1
    assert f"octo-service: cannot listen on 127.0.0.1:{port}: Address already in use; choose another" in result.stderr


def test_a_reader_that_has_read_enough_is_no_error():
    command = f"{sys.executable} -m octo_service.cli evaluate --help | head -1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert result.stdout.startswith("usage: octo-service evaluate")
    assert result.stderr == ""
