"""`lerobot-service certify`: what a checkpoint answers, in a file, and what of it holds elsewhere."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from small_policies import a_copy, rewrite

from lerobot_service.program import LEROBOT
from vla_server_base.commands.command_line import parse, run

UNNORMALIZER = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"


def certify(*arguments: str | Path) -> int:
    """The exit code."""
    few = ("--num", "3", "--predictions", "2", "--device", "cpu")
    try:
        run(LEROBOT, parse(LEROBOT, ["certify", *map(str, arguments), *few]))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def certificate(act_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("certify") / "certificate.json"
    assert certify("--model", act_checkpoint, "--out", path) == 0
    return path


def of_a_copy(certificate: Path, act_checkpoint: Path, folder: Path) -> tuple[Path, Path]:
    """A certificate that names a copy of its checkpoint, and the copy."""
    copied = a_copy(act_checkpoint, folder / "copy")
    path = folder / "certificate.json"
    path.write_text(json.dumps({**json.loads(certificate.read_text()), "model": str(copied)}))
    return path, copied


def test_a_certificate_says_that_the_actions_are_lerobots_own_to_the_last_bit(certificate: Path):
    content = json.loads(certificate.read_text())
    assert content["deviations"] == [{"name": "4 actions of LeRobot's own", "largest": 0.0, "tolerance": 0.0}]
    assert len(content["hashes"]["weights"]) == 64
    assert content["outputs"]["shape"] == [3, 8, 6]
    assert {"lerobot", "torch"} < content["versions"].keys()


def test_it_holds_of_a_copy_of_the_checkpoint(
    certificate: Path, act_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    path, _ = of_a_copy(certificate, act_checkpoint, tmp_path)
    assert certify("--verify", path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("ok ")] == [
        *("weights", "statistics", "code", "inputs", "outputs", "recorded", "batch", "repeat")
    ]
    assert "ok   outputs      3 chunks are the same bit for bit" in lines


def test_it_does_not_hold_where_the_statistics_of_the_actions_are_others(
    certificate: Path, act_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    path, copied = of_a_copy(certificate, act_checkpoint, tmp_path)
    statistics = load_file(copied / UNNORMALIZER)
    save_file({name: 2 * values for name, values in statistics.items()}, rewrite(copied / UNNORMALIZER))
    assert certify("--verify", path) == 1
    assert capsys.readouterr().out.count("FAIL weights") == 1
