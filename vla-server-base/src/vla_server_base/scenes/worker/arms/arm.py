"""An arm in a compiled scene: found by name or by structure, and its kinematics."""
# pyright: reportAttributeAccessIssue=false
# (mujoco's names are in compiled modules, which pyright cannot read)

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import mujoco
import numpy as np
from jaxtyping import Float

from vla_server_base.errors import SceneError, UnknownName
from vla_server_base.scenes.robots import KNOWN_ROBOTS, NO_GRIPPER, ROBOT_NAMES, KnownRobot, Robot
from vla_server_base.scenes.worker.arms.arm_structure import find_chains, find_grasp_site, find_gripper, subtree
from vla_server_base.scenes.worker.arms.rotations import Quaternion, Vector, quaternion_from_matrix
from vla_server_base.scenes.worker.scene_names import ACTUATOR, BODY, JOINT, SITE, has, index, listed, names, some

MOVES = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
KEYFRAME_TOLERANCE = 1e-3
"""Of a home position beyond a joint's range [rad or m]: both are rounded where people write them."""

REACH_TOLERANCE_M = 0.02
"""Between an arm in a scene and the known one: different arms differ by more, revisions of a model by less."""


def find_arm(model: mujoco.MjModel, wanted: str | Robot | None) -> "Arm":
    """Find the robot that is `wanted`: a described one, the only arm there is, or one of these by its name.

    A name is a known robot's, or that of the end effector of one of the scene's arms.

    Raises:
        UnknownName: `robot_name`: no robot of that name is known, and no arm ends there; `joint`, `actuator`,
            `site_or_body`: the description names what the scene has not.
        SceneError: there is no such arm, or more than one, or the description does not describe an arm.
    """
    if isinstance(wanted, Robot):
        return Arm(model, wanted)
    arms = _arms(model)
    chosen = [robot for robot in arms if wanted in (None, robot.name, robot.end_effector)]
    if not chosen and wanted is not None and wanted not in ROBOT_NAMES:
        raise UnknownName("robot_name", wanted, [*ROBOT_NAMES, *some(_ends(arms))])
    if not chosen:
        raise SceneError(f"no {wanted or 'arm'} is found in this scene", hint=f"{_how_to_name()}; {_parts(model)}")
    if len(chosen) > 1:
        chains = "; ".join(listed(robot.joints, 200) for robot in chosen[:4])
        ends = listed(_ends(chosen), 200)
        raise SceneError(
            f"the scene has {len(chosen)} arms: {chains}",
            hint=f"say which in `robot` by the name of its end effector, one of: {ends}; or {_how_to_name()}",
        )
    (robot,) = chosen
    return Arm(model, robot if robot.gripper else replace(robot, gripper=find_gripper(model, robot)))


def _ends(robots: list[Robot]) -> list[str]:
    return [robot.end_effector for robot in robots]


def _arms(model: mujoco.MjModel) -> list[Robot]:
    """Find the arms of known joints and then all others, each with the end effector that its gripper gives it."""
    found: dict[tuple[str, ...], Robot] = {}
    for known in KNOWN_ROBOTS:
        for robot in _occurrences(model, known):
            found.setdefault(robot.joints, robot)
    taken = {joint for joints in found for joint in joints}
    robots = [*found.values(), *(robot for robot in find_chains(model) if taken.isdisjoint(robot.joints))]
    return [_at_its_grasp_site(model, robot) for robot in robots]


def _at_its_grasp_site(model: mujoco.MjModel, robot: Robot) -> Robot:
    """Move the end effector of an arm from its flange to where a gripper that is mounted to it grasps."""
    site = None if robot.gripper else find_grasp_site(model, robot)
    return replace(robot, end_effector=site, offset=(0.0, 0.0, 0.0)) if site else robot


def _occurrences(model: mujoco.MjModel, known: KnownRobot) -> Iterator[Robot]:
    """Find a known robot under its own names, or under these with a prefix and a suffix, as attached models have."""
    for name in names(model, JOINT):
        prefix, found, suffix = name.partition(known.robot.joints[0])
        if found:
            robot = _renamed(known.robot, prefix, suffix)
            if _fits(model, robot) and _reaches(Arm(model, robot), known.reach):
                yield robot


def _renamed(robot: Robot, prefix: str, suffix: str) -> Robot:
    gripper = robot.gripper
    return replace(
        robot,
        joints=tuple(f"{prefix}{name}{suffix}" for name in robot.joints),
        end_effector=f"{prefix}{robot.end_effector}{suffix}",
        gripper=gripper and replace(gripper, actuators=tuple(f"{prefix}{name}{suffix}" for name in gripper.actuators)),
    )


def _fits(model: mujoco.MjModel, robot: Robot) -> bool:
    """Whether all of a known robot's names are here, and its home and its gripper's values within their ranges.

    The ranges tell apart robots whose joints have the same names.
    """
    if not all(has(model, JOINT, name) for name in robot.joints):
        return False
    if not (has(model, SITE, robot.end_effector) or has(model, BODY, robot.end_effector)):
        return False
    for name, position in zip(robot.joints, robot.home or (), strict=True):
        if not _within(position, model.joint(name).range, bool(model.joint(name).limited[0])):
            return False
    gripper = robot.gripper or NO_GRIPPER
    for name, *values in zip(gripper.actuators, gripper.open, gripper.closed, strict=True):
        if not has(model, ACTUATOR, name):
            return False
        actuator = model.actuator(name)
        if not all(_within(value, actuator.ctrlrange, bool(actuator.ctrllimited[0])) for value in values):
            return False
    return True


def _reaches(arm: "Arm", reach: tuple[float, float, float]) -> bool:
    assert arm.home is not None, "known robots have a home"
    position, _ = arm.forward(mujoco.MjData(arm.model), arm.home)
    return bool(np.linalg.norm(position - reach) < REACH_TOLERANCE_M)


def _within(value: float, span: np.ndarray, limited: bool) -> bool:
    low, high = span
    return not limited or bool(low - KEYFRAME_TOLERANCE <= value <= high + KEYFRAME_TOLERANCE)


def _how_to_name() -> str:
    return (
        "describe the arm in `robot`: its joints from base to flange, its end effector (a site or body), its gripper's "
        f"actuators with their open and closed values; or name a known one: {', '.join(ROBOT_NAMES)}"
    )


def _parts(model: mujoco.MjModel) -> str:
    kinds = {"joints": JOINT, "actuators": ACTUATOR, "sites": SITE}
    return "the scene has " + "; ".join(f"{what}: {listed(names(model, kind))}" for what, kind in kinds.items())


class Arm:
    """A robot's place in one compiled scene. Poses are the end effector's, in the frame of the robot's base.

    The base is the body that carries the first joint; it may itself move.
    """

    def __init__(self, model: mujoco.MjModel, robot: Robot):
        self.robot = robot
        self.model = model
        self.joint_ids = _joint_ids(model, robot)
        self.dofs = model.jnt_dofadr[self.joint_ids]
        self._addresses = model.jnt_qposadr[self.joint_ids]
        self._is_hinge = (model.jnt_type[self.joint_ids] == mujoco.mjtJoint.mjJNT_HINGE)[:, None]
        carriers = model.jnt_bodyid[self.joint_ids]
        self._base = int(model.body_parentid[carriers[0]])
        self._site, self._body = _end_effector(model, robot, int(carriers[-1]))
        unlimited = np.array([[-np.inf, np.inf]])
        self.limits: Float[np.ndarray, "joints 2"] = np.where(
            model.jnt_limited[self.joint_ids, None], model.jnt_range[self.joint_ids], unlimited
        )
        self.velocity_limits: Float[np.ndarray, " joints"] | None = _numbers(robot, "velocity_limits")
        self.home: Float[np.ndarray, " joints"] | None = _numbers(robot, "home")
        # Of a base that is the world itself only what moves is the robot's.
        self.bodies = subtree(model, self._base or int(carriers[0]))
        self.gripper_bodies = subtree(model, int(carriers[-1]))
        """What the last joint moves: flange, hand and fingers."""

    def joints(self, data: mujoco.MjData) -> Float[np.ndarray, " joints"]:
        """Return where the joints stand [rad or m]."""
        return data.qpos[self._addresses]

    def joint_speeds(self, data: mujoco.MjData) -> Float[np.ndarray, " joints"]:
        """Return how fast the joints move [rad/s or m/s]."""
        return data.qvel[self.dofs]

    def pose(self, data: mujoco.MjData) -> tuple[Vector, Quaternion]:
        """Return where the end effector stands, in the base's frame."""
        return self.forward(data, self.joints(data))

    def forward(self, data: mujoco.MjData, joints: Float[np.ndarray, " joints"]) -> tuple[Vector, Quaternion]:
        """Return where the end effector would stand with the arm's joints elsewhere; `data` goes back to its state."""
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
        """Have the joints elsewhere for the length of a `with` block.

        In the simulation's own data: a second one would reserve as much memory again, which may be gigabytes.
        """
        before = data.qpos.copy()
        data.qpos[self._addresses] = joints
        mujoco.mj_kinematics(self.model, data)
        yield
        data.qpos[:] = before
        mujoco.mj_kinematics(self.model, data)

    def _base_frame(self, data: mujoco.MjData) -> tuple[Vector, Float[np.ndarray, "3 3"]]:
        return data.xpos[self._base], data.xmat[self._base].reshape(3, 3).T

    def _end_effector_in_base(self, data: mujoco.MjData) -> tuple[Vector, Float[np.ndarray, "3 3"]]:
        if self._site is not None:
            position, matrix = data.site_xpos[self._site], data.site_xmat[self._site].reshape(3, 3)
        else:
            position, matrix = data.xpos[self._body], data.xmat[self._body].reshape(3, 3)
        origin, to_base = self._base_frame(data)
        return to_base @ (position + matrix @ np.array(self.robot.offset) - origin), to_base @ matrix


def _cross(left: Float[np.ndarray, "joints 3"], right: Float[np.ndarray, "joints 3"]) -> Float[np.ndarray, "joints 3"]:
    """Do as `np.cross`, in a fifth of its time for so few rows."""
    return left[:, [1, 2, 0]] * right[:, [2, 0, 1]] - left[:, [2, 0, 1]] * right[:, [1, 2, 0]]


def _joint_ids(model: mujoco.MjModel, robot: Robot) -> np.ndarray:
    for name in robot.joints:
        if not has(model, JOINT, name):
            raise UnknownName("joint", name, some(names(model, JOINT)))
    ids = [index(model, JOINT, name) for name in robot.joints]
    for joint, name in zip(ids, robot.joints, strict=True):
        if int(model.jnt_type[joint]) not in MOVES:
            raise SceneError(f"joint '{name[:80]}' is neither a hinge nor a slide", hint=_how_to_name())
    for joint, after in pairwise(ids):
        if after <= joint or model.jnt_bodyid[after] not in subtree(model, int(model.jnt_bodyid[joint])):
            raise SceneError("the robot's joints are not one chain from base to flange", hint=listed(robot.joints))
    if not ids:
        raise SceneError("the robot has no joints", hint=_how_to_name())
    return np.array(ids)


def _end_effector(model: mujoco.MjModel, robot: Robot, last_body: int) -> tuple[int | None, int]:
    """Return the site, if it is one, and the body."""
    name = robot.end_effector
    site = index(model, SITE, name) if has(model, SITE, name) else None
    if site is None and not has(model, BODY, name):
        raise UnknownName("site_or_body", name, some([*names(model, SITE), *names(model, BODY)]))
    body = index(model, BODY, name) if site is None else int(model.site_bodyid[site])
    if body not in subtree(model, last_body):
        raise SceneError(f"the end effector '{name[:80]}' is not moved by the last joint '{robot.joints[-1][:80]}'")
    return site, body


def _numbers(robot: Robot, name: str) -> np.ndarray | None:
    given = getattr(robot, name)
    if given is None:
        return None
    if len(given) != len(robot.joints):
        raise SceneError(f"the robot has {len(robot.joints)} joints, but {len(given)} numbers in `{name}`")
    return np.array(given, float)
