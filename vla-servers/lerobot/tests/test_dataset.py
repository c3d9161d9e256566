"""LeRobot's own data set, policies and trainer take what `demonstrate` records, as it is."""

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.factory import make_policy
from lerobot.processor import NormalizerProcessorStep, TransitionKey
from policy_requests import an_input
from small_policies import small_act

from lerobot_service.adapter import LeRobotAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.contract import Observation
from vla_server_base.datasets import EpisodeDataset, open_dataset, open_writer
from vla_server_base.scenes.messages import ControlSettings, View
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.tabletop.demonstrations import Demonstrations, DemonstrationSettings
from vla_server_base.tabletop.tasks import TASKS
from vla_server_base.tabletop.trials import draw_trial

MOTION = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
JOINTS = (*(f"joint{number}" for number in range(1, 8)), "gripper")
SIDE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The beginnings of two demonstrations."""
    folder = tmp_path_factory.mktemp("demonstrations")
    sides = {"primary": SIDE, "wrist": SIDE}
    settings = DemonstrationSettings(view=View(height=SIDE, width=SIDE), image_sides=sides, max_steps=4, steps_after=0)

    async def record() -> None:
        async with ScenePool(ServerConfig(renderer="raycast", scene_workers=1)) as pool:
            trials = [draw_trial(TASKS["pick_up_red_cube"], seed) for seed in range(2)]
            writer = open_writer(folder, ControlSettings().rate_hz, "panda", lossless=True)
            async for demonstration in Demonstrations(pool, trials, settings, keep_failures=True):
                writer.append(demonstration.recorded())
            writer.close()

    asyncio.run(record())
    return folder


@pytest.fixture(scope="module")
def recorded(folder) -> EpisodeDataset:
    return open_dataset(folder)


def lerobots(folder: Path, **settings) -> Any:
    """Return the items as LeRobot reads them."""
    return LeRobotDataset("local/demonstrations", root=folder, video_backend="pyav", **settings)


def test_lerobot_reads_every_item_without_a_warning(folder, recorded, caplog):
    with caplog.at_level(logging.WARNING):
        items = list(lerobots(folder))
    assert not caplog.records
    assert len(items) == 8
    steps = [(episode, step) for episode in (recorded[0], recorded[1]) for step in range(len(episode))]
    for item, (episode, step) in zip(items, steps, strict=True):
        for name, frames in episode.images.items():
            pixels = (255 * item[f"observation.images.{name}"]).round().to(torch.uint8).permute(1, 2, 0)
            np.testing.assert_array_equal(pixels, frames[step])
        np.testing.assert_array_equal(item["observation.state"], episode.proprio[step])
        np.testing.assert_array_equal(item["environment_state"], episode.environment_state[step])
        np.testing.assert_array_equal(item["action"], episode.actions[step])
        assert item["task"] == episode.instruction


def test_the_next_actions_are_read_as_a_chunk(folder, recorded):
    rate = lerobots(folder).fps
    item = lerobots(folder, delta_timestamps={"action": [step / rate for step in range(3)]})[2]
    np.testing.assert_array_equal(item["action"][:2], recorded[0].actions[2:])
    assert item["action_is_pad"].tolist() == [False, False, True]


def test_a_policys_features_are_images_state_and_action(folder):
    config = small_act(input_features={}, output_features={}, use_vae=False)
    make_policy(config, ds_meta=lerobots(folder).meta)
    image, state = PolicyFeature(FeatureType.VISUAL, (3, SIDE, SIDE)), PolicyFeature(FeatureType.STATE, (8,))
    assert config.input_features == {
        "observation.images.primary": image,
        "observation.images.wrist": image,
        "observation.state": state,
    }
    assert config.output_features == {"action": PolicyFeature(FeatureType.ACTION, (7,))}


def test_states_and_actions_have_names_and_quantiles(folder, recorded):
    meta = lerobots(folder).meta
    assert meta.names["observation.state"] == [*JOINTS]
    assert meta.names["action"] == [*MOTION]
    normalizer = NormalizerProcessorStep(
        features={"action": PolicyFeature(FeatureType.ACTION, (7,))},
        norm_map={FeatureType.ACTION: NormalizationMode.QUANTILES},
        stats=meta.stats,
    )
    actions = torch.from_numpy(np.concatenate([episode.actions for episode in (recorded[0], recorded[1])]))
    normalized = normalizer({TransitionKey.ACTION: actions})[TransitionKey.ACTION]
    assert normalized.isfinite().all()
    assert normalized[:, :3].abs().max() < 3


def test_a_policy_that_lerobot_train_trained_is_served_with_the_suites_names(folder, recorded, tmp_path, monkeypatch):
    train(
        monkeypatch,
        f"--dataset.root={folder}",
        f"--output_dir={tmp_path / 'run'}",
        "--policy.type=act",
        "--policy.pretrained_backbone_weights=null",
        "--policy.chunk_size=4",
        "--policy.n_action_steps=2",
        "--policy.dim_model=32",
        "--policy.n_heads=2",
        "--policy.use_vae=false",
    )
    adapter = LeRobotAdapter()
    adapter.load_model(str(tmp_path / "run" / "checkpoints" / "last" / "pretrained_model"), "cpu", Path("unused"))
    spec = adapter.spec
    assert [(camera.name, camera.height, camera.required) for camera in spec.cameras] == [
        ("primary", SIDE, True),
        ("wrist", SIDE, True),
    ]
    assert (spec.requires_proprio, spec.proprio_dim, spec.takes_instruction) == (True, 8, False)
    seen = Observation(
        images={name: frames[0] for name, frames in recorded[0].images.items()}, proprio=recorded[0].proprio[0]
    )
    (chunk,) = adapter.predict([an_input(adapter, [seen])])
    assert np.shape(chunk)[-2:] == (4, 7)
    assert np.isfinite(chunk).all()


def train(monkeypatch, *options: str) -> None:
    """Run `lerobot-train` for two steps."""
    from lerobot.scripts import lerobot_train

    always = ("--policy.device=cpu", "--policy.push_to_hub=false", "--dataset.repo_id=local/demonstrations")
    brief = ("--steps=2", "--batch_size=2", "--num_workers=0", "--dataset.video_backend=pyav")
    monkeypatch.setattr(sys, "argv", ["lerobot-train", *always, *brief, *options])
    lerobot_train.main()
