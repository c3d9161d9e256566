"""Names and rate come from the settings, from the data set's info.json, or are numbers."""

import json

import pytest
from small_policies import a_copy

from lerobot_service.checkpoints.checkpoint import load_checkpoint
from lerobot_service.config import LeRobotConfig
from vla_server_base.errors import ModelUnavailable

JOINTS = ("pan", "lift", "elbow", "flex", "roll", "gripper")


def an_info(names=JOINTS, fps: float = 20) -> str:
    both = {name: {"dtype": "float32", "shape": [6], "names": names} for name in ("action", "observation.state")}
    return json.dumps({"fps": fps, "features": both})


@pytest.fixture
def checkpoint(act_checkpoint, tmp_path):
    return a_copy(act_checkpoint, tmp_path / "checkpoint")


def names_of(folder, **settings):
    return load_checkpoint(str(folder), LeRobotConfig(**settings), "cpu").names


def test_without_any_source_numbers_are_counted(checkpoint):
    names = names_of(checkpoint)
    assert names.action == tuple(f"action_{i}" for i in range(6))
    assert names.state == tuple(f"state_{i}" for i in range(6))
    assert (names.control_hz, names.source) == (None, "none")


@pytest.mark.parametrize("given", [list(JOINTS), {"motors": list(JOINTS)}])
def test_an_info_file_beside_the_checkpoint_names_them(checkpoint, given):
    (checkpoint / "info.json").write_text(an_info(given))
    names = names_of(checkpoint)
    assert names.action == names.state == JOINTS
    assert (names.control_hz, names.source) == (20, "info.json")


def test_the_data_set_of_the_training_names_them(checkpoint, tmp_path):
    (tmp_path / "demos" / "meta").mkdir(parents=True)
    (tmp_path / "demos" / "meta" / "info.json").write_text(an_info())
    training = {"dataset": {"repo_id": "local/demos", "root": str(tmp_path / "demos")}}
    (checkpoint / "train_config.json").write_text(json.dumps(training))
    assert names_of(checkpoint).action == JOINTS


def test_settings_come_first(checkpoint):
    (checkpoint / "info.json").write_text(an_info())
    names = names_of(checkpoint, action_names="a b c d e f", control_hz=50)
    assert names.action == tuple("abcdef")
    assert names.state == JOINTS
    assert names.control_hz == 50


def test_a_wrong_number_of_names_is_refused(checkpoint):
    with pytest.raises(ModelUnavailable, match=r"LEROBOT_STATE_NAMES names 2 numbers of 'observation.state'"):
        names_of(checkpoint, state_names="a b")
    (checkpoint / "info.json").write_text(an_info([*JOINTS, "more"]))
    with pytest.raises(ModelUnavailable, match=r"info.json names 7 numbers of 'action', and the policy has 6"):
        names_of(checkpoint)


def test_a_name_given_twice_is_refused(checkpoint):
    with pytest.raises(ModelUnavailable, match=r"LEROBOT_ACTION_NAMES calls two numbers of 'action' a"):
        names_of(checkpoint, action_names="a a b c d e")
    (checkpoint / "info.json").write_text(an_info([*JOINTS[:5], "pan"]))
    with pytest.raises(ModelUnavailable, match=r"info.json calls two numbers of 'action' pan"):
        names_of(checkpoint)


@pytest.mark.parametrize("fps", [0, -3, 1e308, float("inf"), float("nan"), True])
def test_what_is_no_rate_is_none(checkpoint, fps):
    (checkpoint / "info.json").write_text(an_info(fps=fps))
    assert names_of(checkpoint).control_hz is None
