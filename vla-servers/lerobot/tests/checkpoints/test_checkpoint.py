"""A checkpoint that is whole loads, and predicts what LeRobot itself predicts."""

import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors

from lerobot_service.checkpoints.checkpoint import load_checkpoint
from lerobot_service.config import LeRobotConfig


def an_observation() -> dict:
    generator = torch.Generator().manual_seed(3)
    images = {f"observation.images.{name}": torch.rand(1, 3, 64, 64, generator=generator) for name in ("top", "wrist")}
    return {"observation.state": torch.rand(1, 6, generator=generator), "task": ["pick"], **images}


def test_a_loaded_policy_predicts_what_lerobot_predicts(act_checkpoint):
    loaded = load_checkpoint(str(act_checkpoint), LeRobotConfig(), "cpu")
    theirs = ACTPolicy.from_pretrained(act_checkpoint)
    pre, post = make_pre_post_processors(theirs.config, pretrained_path=str(act_checkpoint))

    ours = loaded.postprocessor(loaded.policy.predict_action_chunk(loaded.preprocessor(an_observation())))

    assert torch.equal(ours, post(theirs.predict_action_chunk(pre(an_observation()))))
    assert type(loaded.policy) is ACTPolicy


def test_a_training_run_is_known_by_its_folder(act_checkpoint, tmp_path):
    last = tmp_path / "run" / "checkpoints" / "last"
    last.mkdir(parents=True)
    (last / "pretrained_model").symlink_to(act_checkpoint)

    loaded = load_checkpoint(str(tmp_path / "run"), LeRobotConfig(), "cpu")

    assert loaded.folder == last / "pretrained_model"
    assert len(loaded.hash) == 64
