"""Finds a robot's arm in a compiled scene: by description, by name, or as the only arm there is."""

from collections.abc import Iterator
from dataclasses import replace

import mujoco
import numpy as np

from vla_server_base.errors import SceneError, UnknownName
from vla_server_base.scenes.robots import KNOWN_ROBOTS, NO_GRIPPER, ROBOT_NAMES, KnownRobot, RobotDescription
from vla_server_base.scenes.worker.arms.arm import HOW_TO_DESCRIBE, Arm
from vla_server_base.scenes.worker.arms.arm_structure import find_chains
from vla_server_base.scenes.worker.arms.gripper_structure import find_grasp_site, find_gripper
from vla_server_base.scenes.worker.scene_names import ACTUATOR, BODY, JOINT, SITE, has, listed, names, some

KEYFRAME_TOLERANCE = 1e-3
"""Of a home position beyond a joint's range [rad or m]: both are rounded where people write them."""

REACH_TOLERANCE_M = 0.02
"""Between an arm in a scene and the known one: different arms differ by more, revisions of one model by less."""


def find_arm(model: mujoco.MjModel, wanted: str | RobotDescription | None) -> Arm:
    """Find the robot that is `wanted`: the described one, the one of that name, or for None the only arm of the scene.

    A name is a known robot's, or that of the end effector of one of the scene's arms.

    Raises:
        UnknownName: `robot_name`: no robot of that name is known, and no arm ends there; `joint`, `actuator`,
            `site_or_body`: the description has names that are not in the scene.
        SceneError: the scene has no such arm, or several, or the description does not describe an arm.
    """
    if isinstance(wanted, RobotDescription):
        return Arm(model, wanted)
    arms = _arms(model)
    chosen = [robot for robot in arms if wanted in (None, robot.name, robot.end_effector)]
    if not chosen and wanted is not None and wanted not in ROBOT_NAMES:
        raise UnknownName("robot_name", wanted, [*ROBOT_NAMES, *some(_ends(arms))])
    if not chosen:
        raise SceneError(f"this scene has no {wanted or 'arm'}", hint=f"{HOW_TO_DESCRIBE}; {_parts(model)}")
    if len(chosen) > 1:
        chains = "; ".join(listed(robot.joints, 200) for robot in chosen[:4])
        ends = listed(_ends(chosen), 200)
        raise SceneError(
            f"the scene has {len(chosen)} arms: {chains}",
            hint=f"say which in `robot` by the name of its end effector, one of: {ends}; or {HOW_TO_DESCRIBE}",
        )
    (robot,) = chosen
    return Arm(model, robot if robot.gripper else replace(robot, gripper=find_gripper(model, robot)))


def _ends(robots: list[RobotDescription]) -> list[str]:
    return [robot.end_effector for robot in robots]


def _arms(model: mujoco.MjModel) -> list[RobotDescription]:
    """Find the arms of known joints and then all others, each with the end effector that its gripper gives it."""
    known_arms: dict[tuple[str, ...], RobotDescription] = {}
    for known in KNOWN_ROBOTS:
        for robot in _occurrences(model, known):
            known_arms.setdefault(robot.joints, robot)
    known_joints = {joint for joints in known_arms for joint in joints}
    other_arms = (robot for robot in find_chains(model) if known_joints.isdisjoint(robot.joints))
    robots = [*known_arms.values(), *other_arms]
    return [_at_its_grasp_site(model, robot) for robot in robots]


def _at_its_grasp_site(model: mujoco.MjModel, robot: RobotDescription) -> RobotDescription:
    """Move the end effector of an arm from its flange to where a gripper that is mounted to it grasps."""
    site = None if robot.gripper else find_grasp_site(model, robot)
    return replace(robot, end_effector=site, offset=(0.0, 0.0, 0.0)) if site else robot


def _occurrences(model: mujoco.MjModel, known: KnownRobot) -> Iterator[RobotDescription]:
    """Find a known robot under its own names, or under these with a prefix and a suffix, as attached models have."""
    for name in names(model, JOINT):
        prefix, stem, suffix = name.partition(known.robot.joints[0])
        if stem:
            robot = _renamed(known.robot, prefix, suffix)
            if _fits(model, robot) and _reaches(Arm(model, robot), known.reach):
                yield robot


def _renamed(robot: RobotDescription, prefix: str, suffix: str) -> RobotDescription:
    gripper = robot.gripper
    return replace(
        robot,
        joints=tuple(f"{prefix}{name}{suffix}" for name in robot.joints),
        end_effector=f"{prefix}{robot.end_effector}{suffix}",
        gripper=gripper and replace(gripper, actuators=tuple(f"{prefix}{name}{suffix}" for name in gripper.actuators)),
    )


def _fits(model: mujoco.MjModel, robot: RobotDescription) -> bool:
    """Return whether the scene has all of a known robot's names, and its home and gripper values are in range.

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


def _reaches(arm: Arm, reach: tuple[float, float, float]) -> bool:
    assert arm.home is not None, "known robots have a home"
    position, _ = arm.forward(mujoco.MjData(arm.model), arm.home)
    return bool(np.linalg.norm(position - reach) < REACH_TOLERANCE_M)


def _within(value: float, span: np.ndarray, limited: bool) -> bool:
    low, high = span
    return not limited or bool(low - KEYFRAME_TOLERANCE <= value <= high + KEYFRAME_TOLERANCE)


def _parts(model: mujoco.MjModel) -> str:
    kinds = {"joints": JOINT, "actuators": ACTUATOR, "sites": SITE}
    return "the scene has " + "; ".join(f"{what}: {listed(names(model, kind))}" for what, kind in kinds.items())
