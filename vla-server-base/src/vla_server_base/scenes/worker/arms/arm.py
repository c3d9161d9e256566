"""An arm in a compiled scene, and its kinematics."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import mujoco
import numpy as np
from jaxtyping import Float

from vla_server_base.errors import SceneError, UnknownName
from vla_server_base.scenes.robots import ROBOT_NAMES, RobotDescription
from vla_server_base.scenes.worker.arms.arm_structure import subtree
from vla_server_base.scenes.worker.arms.rotations import Quaternion, Vector, quaternion_from_matrix
from vla_server_base.scenes.worker.scene_names import BODY, JOINT, SITE, has, index, listed, names, some

MOVES = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
HOW_TO_DESCRIBE = (
    "describe the arm in `robot`: its joints from base to flange, its end effector (a site or body), its gripper's "
    f"actuators with their open and closed values; or name a known one: {', '.join(ROBOT_NAMES)}"
)


class Arm:
    """A robot in one compiled scene. Poses are the end effector's, in the frame of the robot's base.

    The base is the body that carries the first joint; it may itself move.
    """

    def __init__(self, model: mujoco.MjModel, robot: RobotDescription):
        self.robot = robot
        self.model = model
        self.joint_ids = _joint_ids(model, robot)
        self.dofs = model.jnt_dofadr[self.joint_ids]
        self._addresses = model.jnt_qposadr[self.joint_ids]
        self._is_hinge = (model.jnt_type[self.joint_ids] == mujoco.mjtJoint.mjJNT_HINGE)[:, None]
        carriers = model.jnt_bodyid[self.joint_ids]
        self.base = int(model.body_parentid[carriers[0]])
        self._site, self._body = _end_effector(model, robot, int(carriers[-1]))
        unlimited = np.array([[-np.inf, np.inf]])
        self.limits: Float[np.ndarray, "joints 2"] = np.where(
            model.jnt_limited[self.joint_ids, None], model.jnt_range[self.joint_ids], unlimited
        )
        self.velocity_limits: Float[np.ndarray, " joints"] | None = _numbers(robot, "velocity_limits")
        self.home: Float[np.ndarray, " joints"] | None = _numbers(robot, "home")
        # Of a base that is the world itself only what moves is the robot's.
        self.bodies = subtree(model, self.base or int(carriers[0]))
        self.gripper_bodies = subtree(model, int(carriers[-1]))
        """What the last joint moves: flange, hand and fingers."""

    def joints(self, data: mujoco.MjData) -> Float[np.ndarray, " joints"]:
        """Return the positions of the joints [rad or m]."""
        return data.qpos[self._addresses]

    def joint_speeds(self, data: mujoco.MjData) -> Float[np.ndarray, " joints"]:
        """Return the velocities of the joints [rad/s or m/s]."""
        return data.qvel[self.dofs]

    def pose(self, data: mujoco.MjData) -> tuple[Vector, Quaternion]:
        """Return the pose of the end effector."""
        return self.forward(data, self.joints(data))

    def forward(self, data: mujoco.MjData, joints: Float[np.ndarray, " joints"]) -> tuple[Vector, Quaternion]:
        """Return the pose of the end effector for other joint positions; `data` returns to its state."""
        with self._placed(data, joints):
            position, matrix = self._end_effector_in_base(data)
        return position, quaternion_from_matrix(matrix)

    def linearized(
        self, data: mujoco.MjData, joints: Float[np.ndarray, " joints"]
    ) -> tuple[Vector, Quaternion, Float[np.ndarray, "6 joints"]]:
        """Return the pose as `forward` does, and how it moves with the joints: translations, then rotations."""
        with self._placed(data, joints):
            position, matrix = self._end_effector_in_base(data)
            origin, to_base = self._base_frame(data)
            axes = data.xaxis[self.joint_ids] @ to_base.T
            arms = position - (data.xanchor[self.joint_ids] - origin) @ to_base.T
        translations = np.where(self._is_hinge, _cross(axes, arms), axes)
        jacobian = np.concatenate([translations, np.where(self._is_hinge, axes, 0.0)], axis=1).T
        return position, quaternion_from_matrix(matrix), jacobian

    @contextmanager
    def _placed(self, data: mujoco.MjData, joints: Float[np.ndarray, " joints"]) -> Iterator[None]:
        """Set the joints for the length of a `with` block.

        In the simulation's own data: a second one would reserve as much memory again, which may be gigabytes.
        """
        before = data.qpos.copy()
        data.qpos[self._addresses] = joints
        mujoco.mj_kinematics(self.model, data)
        yield
        data.qpos[:] = before
        mujoco.mj_kinematics(self.model, data)

    def _base_frame(self, data: mujoco.MjData) -> tuple[Vector, Float[np.ndarray, "3 3"]]:
        return data.xpos[self.base], data.xmat[self.base].reshape(3, 3).T

    def _end_effector_in_base(self, data: mujoco.MjData) -> tuple[Vector, Float[np.ndarray, "3 3"]]:
        if self._site is not None:
            position, matrix = data.site_xpos[self._site], data.site_xmat[self._site].reshape(3, 3)
        else:
            position, matrix = data.xpos[self._body], data.xmat[self._body].reshape(3, 3)
        origin, to_base = self._base_frame(data)
        return to_base @ (position + matrix @ np.array(self.robot.offset) - origin), to_base @ matrix


def _cross(left: Float[np.ndarray, "joints 3"], right: Float[np.ndarray, "joints 3"]) -> Float[np.ndarray, "joints 3"]:
    """Return what `np.cross` does, in a fifth of its time for so few rows."""
    return left[:, [1, 2, 0]] * right[:, [2, 0, 1]] - left[:, [2, 0, 1]] * right[:, [1, 2, 0]]


def _joint_ids(model: mujoco.MjModel, robot: RobotDescription) -> np.ndarray:
    for name in robot.joints:
        if not has(model, JOINT, name):
            raise UnknownName("joint", name, some(names(model, JOINT)))
    ids = [index(model, JOINT, name) for name in robot.joints]
    for joint, name in zip(ids, robot.joints, strict=True):
        if int(model.jnt_type[joint]) not in MOVES:
            raise SceneError(f"joint '{name[:80]}' is neither a hinge nor a slide", hint=HOW_TO_DESCRIBE)
    for joint, after in pairwise(ids):
        if after <= joint or model.jnt_bodyid[after] not in subtree(model, int(model.jnt_bodyid[joint])):
            raise SceneError(
                "the robot's joints are not one chain from base to flange",
                hint=f"list them in that order; got {listed(robot.joints)}",
            )
    if not ids:
        raise SceneError("the robot has no joints", hint=HOW_TO_DESCRIBE)
    return np.array(ids)


def _end_effector(model: mujoco.MjModel, robot: RobotDescription, last_body: int) -> tuple[int | None, int]:
    """Return the site, if it is one, and the body."""
    name = robot.end_effector
    site = index(model, SITE, name) if has(model, SITE, name) else None
    if site is None and not has(model, BODY, name):
        raise UnknownName("site_or_body", name, some([*names(model, SITE), *names(model, BODY)]))
    body = index(model, BODY, name) if site is None else int(model.site_bodyid[site])
    if body not in subtree(model, last_body):
        raise SceneError(
            f"the end effector '{name[:80]}' does not move with the last joint '{robot.joints[-1][:80]}'",
            hint="name a site or body of the last joint's body, or below it",
        )
    return site, body


def _numbers(robot: RobotDescription, name: str) -> np.ndarray | None:
    numbers = getattr(robot, name)
    if numbers is None:
        return None
    if len(numbers) != len(robot.joints):
        raise SceneError(
            f"the robot has {len(robot.joints)} joints, but {len(numbers)} numbers in `{name}`",
            hint=f"send one number of `{name}` for each joint, or leave it out",
        )
    return np.array(numbers, float)
