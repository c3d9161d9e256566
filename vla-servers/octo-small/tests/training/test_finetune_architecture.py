"""A policy changed for another robot: what its config says then, and which parameters it keeps."""

import copy

import numpy as np
import pytest

from octo_service.errors import TrainingError
from octo_service.model.architectures import ARCHITECTURES
from octo_service.model.octo_config import build_octo
from octo_service.training.architecture import Robot, chosen_cameras, describe, merge, policy_for
from octo_service.training.recordings import CameraSource

MODEL = ARCHITECTURES["octo-tiny"].config()["model"]


def _robot(**changes) -> Robot:
    return Robot(**{"cameras": ("primary", "wrist"), "proprio": False, "action_dim": 7, **changes})


def test_for_the_same_robot_nothing_changes():
    before = copy.deepcopy(MODEL)
    assert policy_for(_robot(), MODEL) == MODEL == before


def test_the_references_aloha_example():
    robot = _robot(cameras=("primary",), proprio=True, action_dim=14, horizon=50, head="L1ActionHead")
    model = policy_for(robot, MODEL)
    assert model["observation_tokenizers"].keys() == {"primary", "proprio"}
    assert model["observation_tokenizers"]["proprio"] == {
        "module": "octo.model.components.tokenizers",
        "name": "LowdimObsTokenizer",
        "args": [],
        "kwargs": {"n_bins": 256, "bin_type": "normal", "low": -2.0, "high": 2.0, "obs_keys": ["proprio"]},
    }
    assert model["heads"]["action"] == {
        "module": "octo.model.components.action_heads",
        "name": "L1ActionHead",
        "args": [],
        "kwargs": {"readout_key": "readout_action", "action_horizon": 50, "action_dim": 14},
    }
    head = build_octo(model).heads["action"]
    assert (head.action_horizon, head.action_dim, head.use_map) == (50, 14, True)


def test_a_head_of_the_same_kind_keeps_its_options():
    head = policy_for(_robot(action_dim=3), MODEL)["heads"]["action"]
    assert head["kwargs"] == {**MODEL["heads"]["action"]["kwargs"], "action_dim": 3}


def test_a_new_camera_gets_a_tokenizer_like_the_first_ones():
    tokenizers = policy_for(_robot(cameras=("primary", "left")), MODEL)["observation_tokenizers"]
    assert tokenizers.keys() == {"primary", "left"}
    kwargs = tokenizers["left"]["kwargs"]
    assert kwargs["obs_stack_keys"] == kwargs["task_stack_keys"] == ["image_left"]
    assert kwargs["encoder"] == tokenizers["primary"]["kwargs"]["encoder"]


def test_a_head_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(TrainingError, match=r"no head 'Diffusion'; available: .*DiffusionActionHead"):
        policy_for(_robot(head="Diffusion"), MODEL)


def test_parameters_are_kept_by_path_and_shape():
    stored = {"a/kernel": np.ones((2, 3), np.float32), "b/bias": np.ones(4, np.float32), "c/d/scale": np.ones(1)}
    merged = merge({"a/kernel": (2, 3), "b/bias": (5,), "e/kernel": (7, 2)}, stored, seed=0)
    assert merged.params["a/kernel"] is stored["a/kernel"]
    np.testing.assert_array_equal(merged.params["b/bias"], np.zeros(5))
    assert merged.params["e/kernel"].std() > 0
    assert (merged.kept, merged.new, merged.dropped) == (("a/kernel",), ("b/bias", "e/kernel"), ("b/bias", "c/d/scale"))
    assert describe(merged).splitlines() == [
        "kept        1 arrays",
        "new         2 arrays: b/bias (1), e/kernel (1)",
        "dropped     2 arrays: b/bias (1), c/d (1)",
    ]


def test_cameras_are_those_of_one_name_or_those_asked_for():
    recorded = {"primary": (480, 640), "top": (480, 640)}
    known = {"primary": (256, 256), "wrist": (128, 128)}
    primary = CameraSource(source="primary", height=256, width=256)
    assert chosen_cameras((), recorded, known) == {"primary": primary}
    asked = ("wrist=observation.images.top", "left=top", "primary=primary@64")
    assert chosen_cameras(asked, recorded, known) == {
        "wrist": CameraSource(source="top", height=128, width=128),
        "left": CameraSource(source="top", height=128, width=128),
        "primary": CameraSource(source="primary", height=64, width=64),
    }
    with pytest.raises(TrainingError, match="such as --camera primary=front"):
        chosen_cameras((), {"front": (1, 1)}, known)
    with pytest.raises(TrainingError, match="--camera top is not name=source"):
        chosen_cameras(("top",), recorded, known)
