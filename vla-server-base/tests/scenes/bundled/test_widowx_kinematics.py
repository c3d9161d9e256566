"""The WidowX' frames and limits are those of Interbotix' URDF of the wx250s, computed here without MuJoCo."""

import mujoco
import numpy as np
import pytest
from bundled_arm import BundledArm

X, Y, Z = np.eye(3)
# From base_link outwards: link, origin of its joint in the link before [m], axis, lower, upper [rad],
# effort [Nm].
WX250S = (
    ("shoulder_link", (0, 0, 0.072), Z, -np.pi + 1e-5, np.pi - 1e-5, 10),
    ("upper_arm_link", (0, 0, 0.03865), Y, np.radians(-108), np.radians(114), 20),
    ("upper_forearm_link", (0.04975, 0, 0.25), Y, np.radians(-123), np.radians(92), 15),
    ("lower_forearm_link", (0.175, 0, 0), X, -np.pi + 1e-5, np.pi - 1e-5, 2),
    ("wrist_link", (0.075, 0, 0), Y, np.radians(-100), np.radians(123), 5),
    ("gripper_link", (0.065, 0, 0), X, -np.pi + 1e-5, np.pi - 1e-5, 1),
)
# ee_arm, ee_bar and ee_gripper, all fixed, along x of gripper_link.
GRASP_POINT = (0.043 + 0.023 + 0.027575, 0, 0)
FINGERS = (0.043 + 0.023, 0, 0)


def translation(offset: tuple[float, ...] | np.ndarray) -> np.ndarray:
    frame = np.eye(4)
    frame[:3, 3] = offset
    return frame


def rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """Return Rodrigues' rotation by `angle` about the unit vector `axis`."""
    cross = np.cross(np.eye(3), axis)
    frame = np.eye(4)
    frame[:3, :3] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return frame


@pytest.mark.parametrize("seed", range(10))
def test_forward_kinematics_is_the_urdf(seed: int):
    arm = BundledArm("widowx")
    joints = np.random.default_rng(seed).uniform(*arm.limits.T)
    arm.data.qpos[arm.qpos] = joints
    mujoco.mj_kinematics(arm.model, arm.data)

    expected = np.eye(4)
    for (link, origin, axis, *_limits), angle in zip(WX250S, joints, strict=True):
        expected = expected @ translation(origin) @ rotation(axis, angle)
        np.testing.assert_allclose(arm.data.body(link).xpos, expected[:3, 3], atol=1e-6)
        np.testing.assert_allclose(arm.data.body(link).xmat.reshape(3, 3), expected[:3, :3], atol=1e-6)

    # Site ee stands at ee_gripper_link; its z is that link's x, its x that link's z.
    grasp = expected @ translation(GRASP_POINT)
    ee = arm.data.site("ee")
    np.testing.assert_allclose(ee.xpos, grasp[:3, 3], atol=1e-6)
    np.testing.assert_allclose(ee.xmat.reshape(3, 3), grasp[:3, [2, 1, 0]] * [1, -1, 1], atol=1e-6)

    for side in ("left", "right"):
        travel = arm.data.joint(f"{side}_finger").qpos[0]
        finger = expected @ translation(FINGERS) @ translation(travel * Y)
        np.testing.assert_allclose(arm.data.body(f"{side}_finger_link").xpos, finger[:3, 3], atol=1e-6)


def test_joint_limits_are_the_urdfs():
    arm = BundledArm("widowx")
    limits = [(lower, upper) for *_frame, lower, upper, _effort in WX250S]
    efforts = np.array([effort for *_rest, effort in WX250S])
    np.testing.assert_allclose(arm.limits, limits, atol=5e-6)
    np.testing.assert_array_equal(arm.model.actuator_forcerange[arm.actuators], np.stack([-efforts, efforts], axis=1))


def test_the_fingers_travel_from_15_to_37_millimetres():
    arm = BundledArm("widowx")
    np.testing.assert_array_equal(arm.model.joint("left_finger").range, [0.015, 0.037])
    np.testing.assert_array_equal(arm.model.joint("right_finger").range, [-0.037, -0.015])
    np.testing.assert_array_equal(arm.gripper.ctrlrange, [0, 0.022])
