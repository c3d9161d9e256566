"""Flags made of a config's fields: types, defaults, documents, and values out of range."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_origin

import pytest
from pydantic import Field

from octo_service.commands.options import COMMANDS
from octo_service.commands.options.check import Check
from octo_service.commands.options.finetune import Finetune
from octo_service.program import OCTO
from octo_service.training.fit import Fit
from octo_service.training.intervals import Intervals
from vla_server_base.commands.circumstances import circumstances
from vla_server_base.commands.command_line import parse
from vla_server_base.commands.flags import validated
from vla_server_base.commands.options.demonstrate import Demonstrate
from vla_server_base.commands.options.evaluate import Evaluate
from vla_server_base.commands.options.predict import Predict
from vla_server_base.commands.options.serve import Serve
from vla_server_base.errors import UsageError

RECIPE = Path(__file__).parents[2] / "recipes" / "tabletop.sh"


@dataclass(frozen=True, kw_only=True)
class Inner:
    share: Annotated[float, Field(ge=0, le=1)] = 0.5


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    num_steps: Annotated[int, Field(ge=1)] = 1


def test_options_in_range_are_returned_as_they_are():
    options = Outer(inner=Inner())
    assert validated(options) is options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Outer(inner=Inner(), num_steps=0), "--num-steps=0 cannot be used: .*greater than or equal to 1"),
        (Outer(inner=Inner(share=2.0)), r"--share=2\.0 cannot be used: .*less than or equal to 1"),
        (Outer(inner=Inner(share=float("nan"))), "--share=nan cannot be used"),
    ],
)
def test_a_value_out_of_range_is_named_by_its_flag_however_deep(options: Outer, message: str):
    with pytest.raises(UsageError, match=message):
        validated(options)


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ((), True),
        (("--lossless",), True),
        (("--lossless", "true"), True),
        (("--lossless", "false"), False),
        (("--lossless", "0"), False),
    ],
)
def test_a_switch_may_be_written_out(typed: tuple[str, ...], value: bool):
    options = parse(OCTO, ["demonstrate", "--out", "x", *typed])
    assert isinstance(options, Demonstrate)
    assert options.lossless is value


def test_a_switch_that_is_neither_true_nor_false_is_refused(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        parse(OCTO, ["demonstrate", "--out", "x", "--lossless", "maybe"])
    assert "expected true or false, got 'maybe'" in re.sub(r"[\s│]+", " ", capsys.readouterr().err)


def test_a_recipes_fields_are_flags_without_a_prefix():
    options = parse(
        OCTO, ["finetune", "--data", "a", "b", "--from", "random://octo-tiny", "--out", "x", "--keep", "7", "--remat"]
    )
    assert isinstance(options, Finetune)
    assert options.recipe.data == (Path("a"), Path("b"))
    assert options.recipe.source == "random://octo-tiny"
    assert options.recipe.is_from_scratch
    assert (options.intervals, options.fit) == (Intervals(keep=7), Fit(remat=True))


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--batch-size", "0"),
        ("--keep-image-prob", "1.5"),
        ("--learning-rate", "inf"),
        ("--ema-decay", "1"),
        ("--keep", "-1"),
        ("--validation", "1"),
        ("--micro-batch", "0"),
    ],
)
def test_what_cannot_be_trained_with_is_refused(flag: str, value: str):
    with pytest.raises(UsageError, match=flag):
        parse(OCTO, ["finetune", "--data", "a", "--out", "x", flag, value])


@pytest.mark.parametrize(
    ("flag", "value"), [("--trials", "0"), ("--latency-ms", "-1"), ("--grounding", "-1"), ("--execution-horizon", "0")]
)
def test_what_cannot_be_evaluated_with_is_refused(flag: str, value: str):
    with pytest.raises(UsageError, match=flag):
        parse(OCTO, ["evaluate", "http://127.0.0.1:8002", flag, value])


def test_nothing_is_recorded_in_more_than_all_episodes():
    for flag, value in (("--policy-share", "1.1"), ("--policy-steps", "-1"), ("--random-views", "-1")):
        with pytest.raises(UsageError, match=flag):
            parse(OCTO, ["demonstrate", "--out", "x", flag, value])
    options = parse(OCTO, ["demonstrate", "--out", "x", "--policy-steps", "all"])
    assert isinstance(options, Demonstrate)
    assert options.policy_steps == "all"


def test_the_environment_is_the_default_of_a_flag(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OCTO_MODEL", "random://octo-tiny")
    monkeypatch.setenv("VLA_PORT", "9000")
    options = parse(OCTO, ["serve", "--port", "9001"])
    assert isinstance(options, Serve)
    assert (options.config.model, options.server.port) == ("random://octo-tiny", 9001)


def test_a_flag_of_a_setting_is_refused_with_what_it_takes():
    with pytest.raises(UsageError, match="--port=70000 cannot be used") as error:
        parse(OCTO, ["serve", "--port", "70000"])
    assert error.value.hint == "the same command with --help lists what each flag takes"


def test_positional_arguments_come_first():
    predict, evaluate, check = (
        parse(OCTO, typed)
        for typed in (["predict", "open the drawer"], ["evaluate", "bundled://tabletop"], ["check", "--only", "a", "b"])
    )
    assert isinstance(predict, Predict)
    assert isinstance(evaluate, Evaluate)
    assert isinstance(check, Check)
    assert (predict.instruction, evaluate.policy, check.only) == ("open the drawer", "bundled://tabletop", ("a", "b"))


@pytest.mark.parametrize("command", COMMANDS.values())
def test_every_command_says_what_it_does(command: type):
    document = (get_origin(command) or command).__doc__
    assert document
    assert document.strip().endswith(".")


def typed_in(recipe: Path, folder: Path) -> list[list[str]]:
    """Run a recipe with a command in the place of `octo-service` that writes down what was typed."""
    (folder / "bin").mkdir()
    command = folder / "bin" / "octo-service"
    command.write_text('#!/usr/bin/env bash\nprintf "%s\\t" "$@" >> "$TYPED"\necho >> "$TYPED"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "TYPED": str(folder / "typed")}
    subprocess.run(["bash", str(recipe), str(folder / "made")], env=environment, check=True)
    return [line.split("\t")[:-1] for line in (folder / "typed").read_text().splitlines()]


@pytest.mark.skipif(shutil.which("bash") is None, reason="the recipe is a script for bash")
def test_the_recipe_of_the_bundled_policy_types_flags_that_there_are(tmp_path: Path):
    commands = typed_in(RECIPE, tmp_path)
    assert [command[0] for command in commands].count("finetune") == 4
    for command in commands:
        parse(OCTO, command)


def test_the_circumstances_of_a_report_name_command_machine_and_policy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["octo-service", "evaluate", "a folder"])
    policy = {"model": "mine", "device": "cpu", "details": {"step": 7, "checkpoint_hash": "0123456789abcdef"}}
    said = circumstances(OCTO, policy)
    assert said["command"] == "octo-service evaluate 'a folder'"
    assert said["policy"] == "mine, step 7, 0123456789ab on cpu"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", said["date"])
    assert said["machine"].endswith(f"{os.cpu_count()} cores")
    assert {"Python", "octo-service", "jax", "mujoco"} <= set(re.findall(r"[A-Za-z-]+", said["versions"]))
