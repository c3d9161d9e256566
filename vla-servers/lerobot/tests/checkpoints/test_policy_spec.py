"""A spec follows from the checkpoint: cameras, state, window, execution."""

import pytest
from lerobot.configs import FeatureType, PolicyFeature
from small_policies import a_copy, change_json, features, save_checkpoint, small_act

from lerobot_service.checkpoints.checkpoint import load_checkpoint
from lerobot_service.checkpoints.policy_spec import policy_spec
from lerobot_service.config import LeRobotConfig
from vla_server_base.contract import CameraSpec
from vla_server_base.errors import ModelUnavailable


def spec_of(folder, **settings):
    loaded = load_checkpoint(str(folder), LeRobotConfig(**settings), "cpu")
    return policy_spec(loaded, "small")


def test_an_act_needs_its_cameras_and_state_and_no_text(act_checkpoint):
    spec = spec_of(act_checkpoint, control_hz=30)
    cameras = [CameraSpec(name=name, height=64, width=64, required=True) for name in ("top", "wrist")]
    assert spec.cameras == tuple(cameras)
    assert (spec.proprio_dim, spec.requires_proprio, spec.proprio_names[0]) == (6, True, "state_0")
    assert (spec.action_dim, spec.action_formats, spec.horizon, spec.window) == (6, ("raw",), 8, 1)
    assert (spec.takes_instruction, spec.supports_rtc, spec.control_hz) == (False, False, 30)
    assert (spec.execution, spec.execution_horizon) == ("chunk", 4)
    assert (spec.platform, spec.device != "") == ("cpu", True)
    assert spec.details["policy_type"] == "act"
    assert spec.details["parameters"] > 10_000_000
    assert len(spec.details["checkpoint_hash"]) == 64


def test_an_ensemble_executes_all_chunks(tmp_path):
    spec = spec_of(save_checkpoint(small_act(temporal_ensemble_coeff=0.01, n_action_steps=1), tmp_path / "ensemble"))
    assert (spec.execution, spec.ensemble_weight) == ("ensemble", 0.01)


def test_a_policy_without_state_asks_for_none(tmp_path):
    inputs = {"observation.image": PolicyFeature(FeatureType.VISUAL, (3, 48, 64))}
    spec = spec_of(save_checkpoint(small_act(input_features=inputs), tmp_path / "blind"))
    assert spec.cameras == (CameraSpec(name="image", height=48, width=64, required=True),)
    assert (spec.proprio_dim, spec.requires_proprio, spec.proprio_names) == (None, False, ())


@pytest.mark.parametrize("name", ["observation.images.top.left", "observation.images.cam_high"])
def test_a_camera_has_its_features_name(tmp_path, name):
    inputs = {**features(), name: PolicyFeature(FeatureType.VISUAL, (3, 64, 64))}
    spec = spec_of(save_checkpoint(small_act(input_features=inputs), tmp_path / "one"))
    assert spec.camera_names == (name.removeprefix("observation.images."),)


def test_chunks_of_which_nothing_is_executed_are_refused(act_checkpoint, tmp_path):
    checkpoint = a_copy(act_checkpoint, tmp_path / "idle")
    change_json(checkpoint / "config.json", lambda config: config.update(n_action_steps=0))
    with pytest.raises(ModelUnavailable, match="0 actions of each chunk are executed"):
        spec_of(checkpoint)
