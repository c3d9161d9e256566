"""From an action through the actuators and real physics to where the arm then stands."""

import re

import numpy as np
import pytest
from controlled_arm import ControlledArm, action, compiled, distance, moved

from vla_server_base.errors import SceneError
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import ControlSettings
from vla_server_base.scenes.worker.arms.arm_search import find_arm
from vla_server_base.scenes.worker.arms.controllers import Controller

PANDA = bundled_scene("panda", "tabletop")
# Each in the place of a joint's own position servo. The second rests where 50 ctrl + 20 = 2500 position.
ACTUATORS = {
    "servo with a gear": '<position joint="{joint}" kp="200" kv="20" gear="-3"/>',
    "servo in units of its own": '<general joint="{joint}" gainprm="50" biastype="affine" biasprm="20 -2500 -200"/>',
    "torque motor": '<motor joint="{joint}"/>',
    "torque motor with a gear": '<motor joint="{joint}" gear="-20"/>',
    "velocity servo": '<velocity joint="{joint}" kv="60"/>',
}


def panda_with(actuator: str) -> str:
    """Give the arm other actuators; the keyframe goes with them, as its controls were the servos'."""
    driven = re.sub(
        r'<position name="joint\d" class="\w+" (joint="joint\d")/>',
        lambda m: actuator.replace('joint="{joint}"', m[1]),
        PANDA,
    )
    return re.sub(r"<keyframe>.*</keyframe>", "", driven, flags=re.DOTALL)


def end_of_a_triangle(sim: ControlledArm):
    """Go along a triangle and back up a little, then hold still for a second; return target and pose."""
    state = sim.controller.start(sim.data)
    for shift in ((0.04, 0, 0), (0, 0.04, 0), (-0.02, -0.02, -0.02), (0, 0, 0.03)):
        for _ in range(2):
            state = sim.execute(state, action(shift, (0, 0, 0.05)))
    for _ in range(5):
        sim.simulate(state, state)
    return sim.pose_of(state), sim.arm.pose(sim.data)


@pytest.mark.parametrize("robot", ["panda", "widowx"])
def test_actions_take_a_bundled_arm_where_they_say(robot):
    sim = ControlledArm(bundled_scene(robot, "tabletop"))
    start = sim.arm.pose(sim.data)
    target, stands = end_of_a_triangle(sim)
    assert distance(target, moved(start, np.array([0.04, 0.04, 0.02]), (0, 0, 0.4)))[0] < 1e-3
    metres, radians = distance(stands, target)
    assert metres < 0.003
    assert radians < 0.02


@pytest.mark.parametrize("kind", ACTUATORS)
def test_an_arm_of_other_actuators_goes_there_too(kind):
    sim = ControlledArm(panda_with(ACTUATORS[kind]))
    target, stands = end_of_a_triangle(sim)
    metres, radians = distance(stands, target)
    assert metres < 0.005
    assert radians < 0.02


def test_torque_motors_hold_an_arm_against_gravity_and_follow_closely():
    sim = ControlledArm(panda_with(ACTUATORS["torque motor"]).replace('gravcomp="1"', ""))
    state = sim.controller.start(sim.data)
    worst = 0.0
    for shift in ((0, 0, 0), (0.04, 0, 0), (0, -0.04, 0.02)):
        state = sim.execute(state, action(shift))
        worst = max(worst, distance(sim.arm.pose(sim.data), sim.pose_of(state))[0])
    assert worst < 0.002


def test_a_control_outside_its_range_is_not_written():
    sim = ControlledArm(panda_with('<motor joint="{joint}" ctrlrange="-5 5"/>').replace('gravcomp="1"', ""))
    state = sim.controller.start(sim.data)
    sim.simulate(state, state)
    assert np.abs(sim.data.ctrl[:7]).max() == 5


def test_targets_stay_within_the_range_of_the_servos():
    narrow = PANDA.replace(
        'joint="joint1"/>\n    <position name="joint2"',
        'joint="joint1" ctrlrange="-0.1 0.1" inheritrange="0"/>\n    <position name="joint2"',
    )
    sim = ControlledArm(narrow)
    state = sim.controller.start(sim.data)
    for _ in range(10):
        state, _ = sim.controller.command(sim.data, state, action((0, 0.05, 0), (0, 0, 0.2)))
        sim.stand_at(state.joint_targets)
    assert state.joint_targets[0] == pytest.approx(0.1)


def test_targets_are_interpolated_over_the_control_period():
    sim = ControlledArm(PANDA)
    before = sim.controller.start(sim.data)
    after, _ = sim.controller.command(sim.data, before, action((0.05, 0, 0)))
    for fraction in (0.25, 1.0):
        sim.controller.drive(sim.data, before, after, fraction)
        wanted = before.joint_targets + fraction * (after.joint_targets - before.joint_targets)
        np.testing.assert_allclose(sim.data.ctrl[:7], wanted, atol=1e-12)


@pytest.mark.parametrize(("robot", "finger"), [("panda", "finger_joint1"), ("widowx", "left_finger")])
def test_the_gripper_closes_and_opens(robot, finger):
    sim = ControlledArm(bundled_scene(robot, "tabletop"))
    state = sim.controller.start(sim.data)
    travel = []
    for gripper in (0.0, 1.0):
        for _ in range(5):
            state = sim.execute(state, action(gripper=gripper))
        travel.append(sim.data.joint(finger).qpos[0])
    np.testing.assert_allclose(travel, sim.model.joint(finger).range, atol=1e-3)


def test_a_joint_without_an_actuator_is_named():
    without = re.sub(r'<position name="joint4".*/>', "", PANDA)
    model = compiled(re.sub(r"<keyframe>.*</keyframe>", "", without, flags=re.DOTALL))
    with pytest.raises(SceneError, match="joint 'joint4' has no actuator"):
        Controller(find_arm(model, None), ControlSettings())


def test_an_actuator_that_takes_no_position_or_force_is_named():
    with pytest.raises(SceneError, match="joint 'joint1' has no single actuator that can be given a target"):
        ControlledArm(panda_with('<intvelocity joint="{joint}" kp="100" actrange="-3 3"/>'))
