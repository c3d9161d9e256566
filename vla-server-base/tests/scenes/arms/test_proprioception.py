"""An arm's sensors measure its joints and its gripper, whatever robot it is."""

import mujoco
import numpy as np
import pytest
from arm_scenes import UR5E, XARM7, chain, menagerie_panda, menagerie_widowx
from controlled_arm import compiled

from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import RenderRequest, RolloutRequest, Scene, SceneState, View
from vla_server_base.scenes.worker.arms.arm_search import find_arm
from vla_server_base.scenes.worker.arms.proprioception import Proprioception
from vla_server_base.scenes.worker.simulation.rollout import Simulation

PANDA, WIDOWX = bundled_scene("panda", "tabletop"), bundled_scene("widowx", "tabletop")
ARMS = {
    "panda": (PANDA, [*(f"joint{number}" for number in range(1, 8)), "gripper"]),
    "widowx": (WIDOWX, ["waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper"]),
    "menagerie's panda": (menagerie_panda(), [*(f"joint{number}" for number in range(1, 8)), "gripper"]),
    "menagerie's widowx": (
        menagerie_widowx(),
        ["waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper"],
    ),
    "ur5e without a gripper": (chain(UR5E), [link.joint for link in UR5E.links]),
    "xarm7": (chain(XARM7, gripper=True), [*(link.joint for link in XARM7.links), "gripper"]),
}
FINGERS = {PANDA: ("finger_joint1", 0.0, 0.04), WIDOWX: ("left_finger", 0.015, 0.037)}
"""The joint of one finger, and where it is closed and open [m]."""


@pytest.mark.parametrize("arm", ARMS)
def test_the_numbers_are_the_joints_from_base_to_flange_and_then_the_gripper(arm):
    xml, names = ARMS[arm]
    model = compiled(xml)
    data = mujoco.MjData(model)
    sensors = Proprioception(find_arm(model, None))
    assert list(sensors.names) == names
    joints = [name for name in names if name != "gripper"]
    for number, joint in enumerate(joints):
        data.joint(joint).qpos[0] = 0.1 * number
    mujoco.mj_forward(model, data)
    measured = sensors.measure(data)
    assert measured.shape == (len(names),)
    np.testing.assert_array_equal(measured[: len(joints)], [0.1 * number for number in range(len(joints))])


@pytest.mark.parametrize("xml", [PANDA, WIDOWX], ids=["panda", "widowx"])
@pytest.mark.parametrize("opening", [0.0, 0.25, 1.0])
def test_the_opening_is_the_fingers_own_and_not_what_their_controls_ask_for(xml, opening):
    simulation = _simulation(xml)
    finger, closed, opened = FINGERS[xml]
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key("home").id)
    position = closed + opening * (opened - closed)
    for joint in range(model.njnt):
        if "finger" in model.joint(joint).name:
            data.qpos[model.jnt_qposadr[joint]] = position * (-1 if "right_finger" in model.joint(joint).name else 1)
    assert abs(data.joint(finger).qpos[0]) == pytest.approx(position)
    closes = np.zeros(model.nu)
    reply = simulation.roll_out(RolloutRequest(start=SceneState(qpos=data.qpos, ctrl=closes)))
    assert reply.proprio is not None
    assert reply.proprio[-1] == pytest.approx(opening, abs=1e-6)


@pytest.mark.parametrize("xml", [PANDA, WIDOWX], ids=["panda", "widowx"])
def test_a_rollout_measures_its_end(xml):
    simulation = _simulation(xml)
    action = np.array([0.02, 0.01, -0.02, 0, 0, 0.1, 0.0])
    reply = simulation.roll_out(RolloutRequest(start=SceneState(), actions=np.stack([action] * 3)))
    again = simulation.roll_out(RolloutRequest(start=reply.end))
    joints = len(reply.proprio_names) - 1
    assert reply.proprio is not None
    assert again.proprio is not None
    np.testing.assert_array_equal(reply.proprio[:joints], reply.steps[-1].state.qpos[:joints])
    np.testing.assert_array_equal(again.proprio, reply.proprio)
    assert reply.proprio[-1] < 0.01, "the gripper has closed"


def test_what_is_measured_does_not_change_the_simulation():
    model = mujoco.MjModel.from_xml_string(WIDOWX)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    before = data.qpos.copy(), data.qvel.copy(), data.ctrl.copy(), data.actuator_length.copy()
    Proprioception(find_arm(model, None)).measure(data)
    for old, new in zip(before, (data.qpos, data.qvel, data.ctrl, data.actuator_length), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_scene_without_an_arm_has_nothing_to_measure():
    pendulum = '<mujoco><worldbody><body><joint/><geom size=".1"/></body></worldbody></mujoco>'
    reply = _simulation(pendulum).roll_out(RolloutRequest(start=SceneState(), control=None))
    assert reply.proprio is None
    assert reply.proprio_names == ()


@pytest.mark.anyio
async def test_an_image_comes_with_what_the_arm_measures_where_that_is_asked_for(pool):
    scene = Scene(xml=PANDA)
    small = View(height=16, width=16)
    asked = await pool.render(scene, RenderRequest(view=small, measures_proprio=True))
    rolled_out = await pool.roll_out(scene, RolloutRequest(start=SceneState()))
    assert asked.proprio_names == rolled_out.proprio_names
    np.testing.assert_array_equal(asked.proprio, rolled_out.proprio)
    assert (await pool.render(scene, RenderRequest(view=small))).proprio is None


@pytest.mark.anyio
async def test_where_no_arm_can_be_measured_the_image_comes_with_the_reason(pool):
    body = '<body><joint/><geom size=".1"/></body>'
    pendulum = f'<mujoco><worldbody><camera name="primary"/>{body}</worldbody></mujoco>'
    small = View(height=16, width=16)
    reply = await pool.render(Scene(xml=pendulum), RenderRequest(view=small, measures_proprio=True))
    assert (reply.proprio, reply.no_proprio) == (None, "this scene has no arm")
    named = await pool.render(Scene(xml=PANDA), RenderRequest(view=small, robot="xarm7", measures_proprio=True))
    assert named.no_proprio == "this scene has no xarm7"


def _simulation(xml: str) -> Simulation:
    model = mujoco.MjModel.from_xml_string(xml)
    return Simulation(model, mujoco.MjData(model))
