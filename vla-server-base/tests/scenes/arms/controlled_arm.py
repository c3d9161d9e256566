"""An arm in simulation with its controller, and scenes of arms that are made here from primitives."""

from typing import Any

import mujoco
import numpy as np

from vla_server_base.scenes.messages import ControlSettings, ControlState
from vla_server_base.scenes.worker.arms.arm_search import find_arm
from vla_server_base.scenes.worker.arms.controllers import Controller
from vla_server_base.scenes.worker.arms.rotations import (
    product,
    quaternion_from_vector,
    rotate,
    rotation_between,
)


def compiled(xml: str) -> mujoco.MjModel:
    return mujoco.MjSpec.from_string(xml).compile()


class ControlledArm:
    """The only arm of a scene, at the keyframe `home` or at its robot's home, and what drives it."""

    def __init__(self, xml: str, **settings: Any):
        self.model = compiled(xml)
        self.data = mujoco.MjData(self.model)
        self.arm = find_arm(self.model, None)
        self.settings = ControlSettings(**settings)
        self.controller = Controller(self.arm, self.settings)
        if self.model.nkey:
            mujoco.mj_resetDataKeyframe(self.model, self.data, 0)
        elif self.arm.home is not None:
            self.stand_at(self.arm.home)
        mujoco.mj_forward(self.model, self.data)

    def stand_at(self, joints: np.ndarray) -> None:
        for name, position in zip(self.arm.robot.joints, joints, strict=True):
            self.data.joint(name).qpos[0] = position
        mujoco.mj_forward(self.model, self.data)

    def state_at(self, joints: np.ndarray | None) -> ControlState:
        """Return the memory of a controller that has told the arm to go where it stands."""
        assert joints is not None
        self.stand_at(joints)
        return ControlState(joint_targets=np.array(joints, float), gripper_opening=1.0)

    def pose_of(self, state: ControlState) -> tuple[np.ndarray, np.ndarray]:
        return self.arm.forward(self.data, state.joint_targets)

    def execute(self, state: ControlState, action: np.ndarray) -> ControlState:
        """Command one action and simulate one control period of it."""
        after, _ = self.controller.command(self.data, state, action)
        self.simulate(state, after)
        return after

    def simulate(self, before: ControlState, after: ControlState) -> None:
        num_steps = round(1 / self.settings.rate_hz / self.model.opt.timestep)
        for step in range(num_steps):
            self.controller.drive(self.data, before, after, (step + 1) / num_steps)
            mujoco.mj_step(self.model, self.data)

    def random_joints(self, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(*np.clip(self.arm.limits, -np.pi, np.pi).T)


def action(translation=(0, 0, 0), rotation=(0, 0, 0), gripper=1.0) -> np.ndarray:
    """Form an action; `rotation` is a rotation vector, which the action says as roll, pitch, yaw."""
    x, y, z = (rotate(axis, quaternion_from_vector(np.array(rotation, float))) for axis in np.eye(3))
    pitch = np.arcsin(np.clip(-x[2], -1, 1))
    return np.array([*translation, np.arctan2(y[2], z[2]), pitch, np.arctan2(x[1], x[0]), gripper], float)


def distance(pose: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    """Return how far two poses are apart [m, rad]."""
    return float(np.linalg.norm(pose[0] - other[0])), float(np.linalg.norm(rotation_between(pose[1], other[1])))


def is_at(pose: tuple[np.ndarray, np.ndarray], goal: tuple[np.ndarray, np.ndarray]) -> bool:
    metres, radians = distance(pose, goal)
    return metres < 1e-3 and radians < 1e-2


def moved(pose: tuple[np.ndarray, np.ndarray], translation, rotation) -> tuple[np.ndarray, np.ndarray]:
    """Move a pose along and about the axes of the base."""
    return pose[0] + translation, product(quaternion_from_vector(np.array(rotation, float)), pose[1])
