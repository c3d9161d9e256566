"""`octo-service convert-data`, and the way from others' recordings to a policy, as docs/datasets.md has it."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pytest

from octo_service.checkpoints.checkpoint import load_checkpoint
from octo_service.program import OCTO
from vla_server_base.commands import convert_data
from vla_server_base.commands.options.convert_data import ConvertData
from vla_server_base.datasets import open_dataset
from vla_server_base.errors import DatasetError
from vla_server_base.testing.recordings import numbers, write_rlds, write_robomimic

PAGE = Path(__file__).parents[4] / "docs" / "datasets.md"


@pytest.fixture
def lift(tmp_path: Path) -> Path:
    """Write a file of robomimic's, with three episodes."""
    return write_robomimic(tmp_path / "lift.hdf5")


def test_a_file_becomes_a_dataset_of_lerobots(tmp_path: Path, lift: Path, capsys: pytest.CaptureFixture[str]):
    convert_data.run(ConvertData(source=lift, out=tmp_path / "out", instruction="lift the cube"), OCTO)
    dataset = open_dataset(tmp_path / "out")
    assert (len(dataset), dataset.fps, dataset[1].instruction) == (3, 20, "lift the cube")
    np.testing.assert_array_equal(dataset[1].actions, numbers(1, 6, 7).astype(np.float32))
    assert [dataset.metadata(index)["episode"] for index in range(3)] == ["demo_0", "demo_9", "demo_18"]
    said = capsys.readouterr().out
    assert "3 episodes at 20 fps, cameras primary 48x32, wrist 16x16, actions of 7 numbers, proprio of 9" in said


def test_an_episode_that_cannot_be_trained_on_is_left_out_by_its_name(tmp_path: Path, lift: Path):
    with h5py.File(lift, "a") as file:
        h5py.Dataset(file["data/demo_9/actions"].id)[2, 0] = np.inf
    with pytest.raises(DatasetError, match=r"episode demo_9 of .* timestep 2 is inf") as error:
        convert_data.run(ConvertData(source=lift, out=tmp_path / "out"), OCTO)
    assert "--without EPISODE" in str(error.value.hint)
    assert [path.name for path in tmp_path.iterdir()] == ["lift.hdf5"], "all of it, or nothing"

    convert_data.run(ConvertData(source=lift, out=tmp_path / "out", without=("demo_9",)), OCTO)
    assert [len(episode) for episode in open_dataset(tmp_path / "out")] == [5, 7]
    convert_data.run(ConvertData(source=tmp_path / "out", out=tmp_path / "again", without=("0",), lossless=True), OCTO)
    assert [len(episode) for episode in open_dataset(tmp_path / "again")] == [7]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"without": ("demo_1",)}, "--without demo_1: there is no such episode; available: demo_0, demo_9, demo_18"),
        ({"without": ("demo_0", "demo_9", "demo_18")}, "there is no episode to convert"),
        ({"camera": ("obs/agentview_image",)}, "is not name=key; write, for example, primary=obs/agentview_image"),
        ({"out": Path()}, "already exists; name another folder"),
    ],
)
def test_what_is_asked_for_and_cannot_be_done_is_refused(tmp_path: Path, lift: Path, options: dict, message: str):
    with pytest.raises(DatasetError) as error:
        convert_data.run(ConvertData(**{"source": lift, "out": tmp_path / "out", **options}), OCTO)
    assert message in error.value.as_sentence()


def test_from_recordings_of_others_to_a_policy_by_the_documents_commands(tmp_path: Path, lift: Path):
    """The commands of the page, but for where its policy and data come from, and how long it trains."""
    write_rlds(tmp_path / "rlds")
    commands = re.findall(r"^octo-service ((?:convert-data|finetune) .*)$", PAGE.read_text(), re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["convert-data", "finetune"] * 2
    ours = {
        "~/tensorflow_datasets/bridge_dataset": "rlds",
        "observation/image_0": "observation/image",
        "hf://rail-berkeley/octo-small-1.5": "random://octo-tiny",
    }
    briefly = "--steps 2 --batch-size 2 --device cpu --cache-dir cache"
    for command in commands:
        for theirs, our in ours.items():
            command = command.replace(theirs, our)
        if command.startswith("finetune"):
            command = f"{command} {briefly}"
        arguments = re.findall(r'"([^"]*)"|(\S+)', command)
        typed = [quoted or plain for quoted, plain in arguments]
        result = subprocess.run(
            [sys.executable, "-m", "octo_service.cli", *typed],
            cwd=tmp_path,
            env={**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert result.returncode == 0, result.stderr
    for policy in ("lift-policy", "bridge-policy"):
        assert load_checkpoint(tmp_path / policy).step == 2


def test_every_flag_is_documented():
    section = PAGE.read_text().partition("## `octo-service convert-data`")[2].partition("\n## ")[0]
    names = {f"--{field.name.replace('_', '-')}" for field in fields(ConvertData)} - {"--source", "--out"}
    assert names <= set(re.findall(r"`(--[a-z-]+)", section))
