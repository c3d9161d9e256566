"""The bundled arms stand still, move as told, and open and close their grippers."""

import mujoco
import numpy as np
from bundled_arm import FINGER_JOINTS, OBJECTS, BundledArm

STEP_RAD = 0.2


def test_at_home_the_arm_holds_still_for_two_seconds(arm: BundledArm):
    home = arm.joints
    for _ in range(20):
        arm.step(0.1)
        assert np.abs(arm.joints - home).max() < 0.01


def test_at_home_the_objects_rest_on_the_table(arm: BundledArm):
    start = {name: arm.position(name) for name in OBJECTS}
    for _ in range(20):
        arm.step(0.1)
        assert min(contact.dist for contact in arm.data.contact) > -0.002
    for name in OBJECTS:
        assert np.abs(arm.position(name) - start[name]).max() < 0.001
        assert np.abs(arm.data.joint(name).qvel).max() < 0.001


def test_at_home_nothing_touches_the_robot(arm: BundledArm):
    robot = arm.robot_bodies()
    touching = [arm.model.geom_bodyid[contact.geom] for contact in arm.data.contact]
    assert not [bodies for bodies in touching if robot & set(bodies.tolist())]


def test_the_arm_collides_with_itself_where_it_folds_and_nowhere_else(arm: BundledArm):
    # Links whose shapes overlap where they are joined would collide in every pose.
    robot = arm.robot_bodies()
    rng = np.random.default_rng(0)
    num_free = 0
    for _ in range(200):
        arm.data.qpos[arm.qpos] = rng.uniform(*arm.limits.T)
        mujoco.mj_kinematics(arm.model, arm.data)
        mujoco.mj_collision(arm.model, arm.data)
        pairs = [set(arm.model.geom_bodyid[contact.geom].tolist()) for contact in arm.data.contact]
        num_free += not any(pair <= robot for pair in pairs)
    assert 160 < num_free < 200


def test_every_joint_follows_a_step_within_a_second_and_hardly_overshoots(arm: BundledArm):
    home = arm.joints
    for joint, actuator in enumerate(arm.actuators):
        sign = 1 if home[joint] + STEP_RAD < arm.limits[joint, 1] else -1
        arm.data.ctrl[actuator] += sign * STEP_RAD
        way = []
        for _ in range(500):
            arm.step(0.002)
            way.append(sign * (arm.joints - home) / STEP_RAD)
        arm.data.ctrl[actuator] = home[joint]
        arm.step(1.0)

        moved = np.array(way)
        assert np.abs(moved[400:, joint] - 1).max() < 0.03
        assert moved[:, joint].max() < 1.05
        assert np.abs(np.delete(moved, joint, axis=1)).max() < 0.05


def test_the_gripper_closes_and_opens_fully(arm: BundledArm):
    ranges = [np.abs(arm.model.joint(name).range) for name in FINGER_JOINTS[arm.robot]]
    arm.open_gripper(0.0, seconds=1.0)
    np.testing.assert_allclose(np.abs(arm.fingers), [limits.min() for limits in ranges], atol=2e-4)
    arm.open_gripper(1.0, seconds=1.0)
    np.testing.assert_allclose(np.abs(arm.fingers), [limits.max() for limits in ranges], atol=2e-4)


def test_half_open_is_half_way(arm: BundledArm):
    middles = [np.abs(arm.model.joint(name).range).mean() for name in FINGER_JOINTS[arm.robot]]
    arm.open_gripper(0.5, seconds=1.0)
    np.testing.assert_allclose(np.abs(arm.fingers), middles, atol=5e-4)
