"""The Panda's frames and limits are Franka's published ones, computed here without MuJoCo."""

import mujoco
import numpy as np
import pytest
from bundled_arm import BundledArm

# Franka Control Interface, "Denavit-Hartenberg parameters" in Craig's convention: a, d [m], alpha [rad].
PANDA_DH = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -np.pi / 2),
    (0.0, 0.316, np.pi / 2),
    (0.0825, 0.0, np.pi / 2),
    (-0.0825, 0.384, -np.pi / 2),
    (0.0, 0.0, np.pi / 2),
    (0.088, 0.0, np.pi / 2),
)
FLANGE_M = 0.107
HAND_TURN = -np.pi / 4
FINGER_TIPS_M = 0.1034
# Franka Control Interface, "Limits for Panda": q_min, q_max [rad], tau_max [Nm].
PANDA_LIMITS = (
    (-2.8973, 2.8973, 87),
    (-1.7628, 1.7628, 87),
    (-2.8973, 2.8973, 87),
    (-3.0718, -0.0698, 87),
    (-2.8973, 2.8973, 12),
    (-0.0175, 3.7525, 12),
    (-2.8973, 2.8973, 12),
)


def craig(a: float, d: float, alpha: float, theta: float) -> np.ndarray:
    """Return RotX(alpha) TransX(a) RotZ(theta) TransZ(d)."""
    ca, sa, ct, st = np.cos(alpha), np.sin(alpha), np.cos(theta), np.sin(theta)
    return np.array(
        [
            [ct, -st, 0, a],
            [st * ca, ct * ca, -sa, -d * sa],
            [st * sa, ct * sa, ca, d * ca],
            [0, 0, 0, 1],
        ]
    )


def panda_frames(joints: np.ndarray) -> list[np.ndarray]:
    """Return the frames of link1 to link7, hand and ee in that of link0."""
    frames = [np.eye(4)]
    for (a, d, alpha), theta in zip(PANDA_DH, joints, strict=True):
        frames.append(frames[-1] @ craig(a, d, alpha, theta))
    frames.append(frames[-1] @ craig(0, FLANGE_M, 0, HAND_TURN))
    frames.append(frames[-1] @ craig(0, FINGER_TIPS_M, 0, 0))
    return frames[1:]


@pytest.mark.parametrize("seed", range(10))
def test_forward_kinematics_is_the_published_table(seed: int):
    arm = BundledArm("panda")
    joints = np.random.default_rng(seed).uniform(*arm.limits.T)
    arm.data.qpos[arm.qpos] = joints
    mujoco.mj_kinematics(arm.model, arm.data)

    bodies = [arm.data.body(name) for name in (*(f"link{number}" for number in range(1, 8)), "hand")]
    for simulated, expected in zip([*bodies, arm.data.site("ee")], panda_frames(joints), strict=True):
        np.testing.assert_allclose(simulated.xpos, expected[:3, 3], atol=1e-6)
        np.testing.assert_allclose(simulated.xmat.reshape(3, 3), expected[:3, :3], atol=1e-6)


def test_joint_limits_are_the_published_ones():
    arm = BundledArm("panda")
    lower, upper, torque = np.array(PANDA_LIMITS).T
    np.testing.assert_array_equal(arm.limits, np.stack([lower, upper], axis=1))
    np.testing.assert_array_equal(arm.model.actuator_forcerange[arm.actuators], np.stack([-torque, torque], axis=1))


def test_each_finger_travels_four_centimetres():
    arm = BundledArm("panda")
    for name in ("finger_joint1", "finger_joint2"):
        np.testing.assert_array_equal(arm.model.joint(name).range, [0, 0.04])
    np.testing.assert_array_equal(arm.gripper.ctrlrange, [0, 0.04])
