"""Recordings of an episode: an animation that anybody can open, a state log that MuJoCo loads."""

import io
import zipfile
from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest
from PIL import Image as PillowImage

from vla_server_base.datasets import RecordedEpisode, open_dataset
from vla_server_base.episodes.recording import animated_webp, lerobot_dataset, state_log
from vla_server_base.errors import DatasetError
from vla_server_base.scenes.messages import SimulationState

XML = """<mujoco><worldbody><body><joint name="hinge"/><geom size="0.1"/></body></worldbody>
<actuator><motor joint="hinge"/></actuator></mujoco>"""


def state(number: int) -> SimulationState:
    return SimulationState(
        time_s=0.1 * number, qpos=np.array([0.5 * number]), qvel=np.array([-1.0]), ctrl=np.array([2.0])
    )


def test_an_animation_has_every_image_at_the_episodes_rate():
    levels = (0, 120, 240)
    content = animated_webp([np.full((16, 24, 3), level, np.uint8) for level in levels], rate_hz=5)
    with PillowImage.open(io.BytesIO(content)) as animation:
        assert (animation.format, animation.size, animation.n_frames) == ("WEBP", (24, 16), 3)
        for number, level in enumerate(levels):
            animation.seek(number)
            assert abs(np.asarray(animation.convert("RGB")).mean() - level) < 4
            assert animation.info["duration"] == 200


def test_a_state_log_replays_each_state_to_the_bit():
    log = state_log(XML, [state(number) for number in range(3)])
    model = mujoco.MjModel.from_xml_string(log)
    data = mujoco.MjData(model)
    assert model.nkey == 3
    for number in range(3):
        mujoco.mj_resetDataKeyframe(model, data, number)
        assert (data.time, data.qpos[0], data.qvel[0], data.ctrl[0]) == (0.1 * number, 0.5 * number, -1.0, 2.0)


def test_a_state_log_names_the_steps_and_leaves_out_what_the_scene_has_not():
    still = SimulationState(time_s=0.0, qpos=np.zeros(0), qvel=np.zeros(0), ctrl=np.zeros(0))
    keys = ElementTree.fromstring(state_log("<mujoco/>", [still, still])).findall("keyframe/key")
    assert [key.attrib for key in keys] == [{"name": f"episode {number}", "time": "0.0"} for number in range(2)]


def recorded_episode() -> RecordedEpisode:
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), np.uint8)
    return RecordedEpisode(
        images={"primary": images},
        proprio=np.arange(28, dtype=np.float32).reshape(4, 7),
        actions=np.linspace(0, 1, 28, dtype=np.float32).reshape(4, 7),
        instruction="pick up the red cube",
    )


def test_a_lerobot_dataset_has_the_episode_to_the_bit(tmp_path):
    episode = recorded_episode()
    with zipfile.ZipFile(io.BytesIO(lerobot_dataset([episode], 5.0, "panda"))) as archive:
        archive.extractall(tmp_path)
    (read,) = open_dataset(tmp_path)
    assert read.instruction == episode.instruction
    np.testing.assert_array_equal(read.images["primary"], episode.images["primary"])
    np.testing.assert_array_equal(read.actions, episode.actions)
    np.testing.assert_array_equal(read.proprio, episode.proprio)


def test_a_lerobot_dataset_needs_a_whole_rate():
    with pytest.raises(DatasetError, match="whole number"):
        lerobot_dataset([recorded_episode()], 7.5, "panda")
