"""What docs/scenes.md promises of every bundled scene."""

import mujoco
import numpy as np
import pytest
from bundled_arm import ARM_JOINTS, FINGER_JOINTS, OBJECTS, BundledArm

PRIMITIVES = {
    mujoco.mjtGeom.mjGEOM_BOX,
    mujoco.mjtGeom.mjGEOM_CAPSULE,
    mujoco.mjtGeom.mjGEOM_CYLINDER,
    mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    mujoco.mjtGeom.mjGEOM_PLANE,
    mujoco.mjtGeom.mjGEOM_SPHERE,
}
# Of the arm: Franka's data sheet says about 18 kg; the links of Interbotix' URDF sum to 2.13 kg.
MASS_KG = {"panda": 18.0, "widowx": 2.13}
OBJECT_SIZE_M = {"panda": 0.05, "widowx": 0.035}


def test_it_has_the_cameras_and_the_keyframe(arm: BundledArm):
    assert {arm.model.camera(index).name for index in range(arm.model.ncam)} == {"primary", "wrist"}
    assert [arm.model.key(index).name for index in range(arm.model.nkey)] == ["home"]


def test_it_is_few_primitives_and_so_cheap_to_draw(arm: BundledArm):
    assert {mujoco.mjtGeom(kind) for kind in arm.model.geom_type} <= PRIMITIVES
    assert arm.model.ngeom < 80
    assert arm.model.nmesh == arm.model.nhfield == 0


def test_it_steps_by_two_milliseconds_implicitly(arm: BundledArm):
    assert arm.model.opt.timestep == 0.002
    assert arm.model.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST


def test_actuators_are_the_arm_in_order_and_then_the_gripper(arm: BundledArm):
    names = [arm.model.actuator(index).name for index in range(arm.model.nu)]
    assert names == [*ARM_JOINTS[arm.robot], "gripper"]


def test_actuators_take_the_whole_range_of_their_joints_and_no_more(arm: BundledArm):
    np.testing.assert_allclose(arm.model.actuator_ctrlrange[arm.actuators], arm.limits, atol=1e-12)
    assert arm.gripper.ctrlrange[0] == 0


def test_home_is_where_its_controls_hold_it(arm: BundledArm):
    np.testing.assert_array_equal(arm.joints, arm.data.ctrl[arm.actuators])
    assert arm.data.ctrl[arm.gripper.id] == arm.gripper.ctrlrange[1]


def test_at_home_the_gripper_points_down_and_opens_sideways(arm: BundledArm):
    x, y, z = arm.data.site("ee").xmat.reshape(3, 3).T
    np.testing.assert_allclose([x, y, z], [[1, 0, 0], [0, -1, 0], [0, 0, -1]], atol=1e-9)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_ee_lies_in_the_middle_between_the_pads(arm: BundledArm, fraction: float):
    arm.open_gripper(fraction, seconds=1.0)
    left, right = (arm.data.geom(f"{side}_pad").xpos for side in ("left", "right"))
    between = (left + right) / 2 - arm.data.site("ee").xpos
    approach = arm.data.site("ee").xmat.reshape(3, 3)[:, 2]
    assert np.linalg.norm(between - approach * (approach @ between)) < 1e-4
    assert abs(approach @ between) < 2e-3


def test_gravity_is_compensated_on_the_whole_arm_and_on_nothing_else(arm: BundledArm):
    compensated = {body for body in range(arm.model.nbody) if arm.model.body_gravcomp[body] == 1}
    assert compensated == arm.robot_bodies()


def test_the_arm_weighs_what_the_real_one_does(arm: BundledArm):
    mass = sum(arm.model.body_mass[body] for body in arm.robot_bodies())
    assert mass == pytest.approx(MASS_KG[arm.robot], rel=0.04)


def test_objects_are_free_bodies_of_the_size_of_a_toy(arm: BundledArm):
    for name in OBJECTS:
        assert arm.model.joint(name).type == mujoco.mjtJoint.mjJNT_FREE
        assert 2 * arm.model.geom(name).size[0] == OBJECT_SIZE_M[arm.robot]


def test_fingers_are_as_wide_open_as_their_joints_allow_at_home(arm: BundledArm):
    for name in FINGER_JOINTS[arm.robot]:
        joint = arm.model.joint(name)
        assert abs(arm.data.joint(name).qpos[0]) == max(abs(joint.range))
