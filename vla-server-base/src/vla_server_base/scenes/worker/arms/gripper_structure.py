"""Finds the gripper at an arm's end, and which end of its actuators' ranges is open."""

import mujoco

from vla_server_base.errors import SceneError
from vla_server_base.scenes.robots import Gripper, RobotDescription
from vla_server_base.scenes.worker.arms.arm_structure import subtree, tool_sites
from vla_server_base.scenes.worker.scene_names import ACTUATOR, JOINT, index

CLEAR_OPENING = 0.01
"""A gripper is open where its parts lie further apart than where it is closed, by this part of their spread."""


def find_gripper(model: mujoco.MjModel, robot: RobotDescription) -> Gripper | None:
    """Return the gripper at a robot's end, or None if no actuator moves anything there.

    Raises:
        SceneError: it is unclear which end of an actuator's range is open.
    """
    hand = sorted(subtree(model, _last_body(model, robot)))
    positions = {
        model.actuator(actuator).name: _open_and_closed(model, actuator, moved, hand)
        for actuator, moved in _finger_actuators(model, robot).items()
    }
    if not positions:
        return None
    opened, closed = zip(*positions.values(), strict=True)
    return Gripper(actuators=tuple(positions), open=opened, closed=closed)


def find_grasp_site(model: mujoco.MjModel, robot: RobotDescription) -> str | None:
    """Return the site of the gripper at a robot's end that is named as a tool, or None."""
    fingers = [int(model.jnt_bodyid[joint]) for moved in _finger_actuators(model, robot).values() for joint in moved]
    if not fingers:
        return None
    hand = subtree(model, _palm(model, fingers))
    return next((name for body, name in tool_sites(model) if body in hand), None)


def _palm(model: mujoco.MjModel, fingers: list[int]) -> int:
    """Return the last body that carries all of a gripper's fingers."""
    carrying = [_carriers(model, finger) for finger in fingers]
    return max(frozenset.intersection(*carrying))  # a body comes after its parent


def _carriers(model: mujoco.MjModel, body: int) -> frozenset[int]:
    carriers = set()
    while body:
        body = int(model.body_parentid[body])
        carriers.add(body)
    return frozenset(carriers)


def _last_body(model: mujoco.MjModel, robot: RobotDescription) -> int:
    return int(model.jnt_bodyid[index(model, JOINT, robot.joints[-1])])


def _finger_actuators(model: mujoco.MjModel, robot: RobotDescription) -> dict[int, dict[int, float]]:
    """Return the actuators that move only joints below the robot's last one, with the joints that each moves."""
    hand = subtree(model, _last_body(model, robot))
    arm = {index(model, JOINT, name) for name in robot.joints}
    actuators = {}
    for actuator in range(model.nu):
        moved = _moved(model, actuator)
        if moved and not arm & moved.keys() and all(int(model.jnt_bodyid[joint]) in hand for joint in moved):
            actuators[actuator] = moved
    return actuators


def _moved(model: mujoco.MjModel, actuator: int) -> dict[int, float]:
    """Return the joints that an actuator moves, each with how its length changes with the joint's position."""
    target = int(model.actuator_trnid[actuator, 0])
    gear = float(model.actuator_gear[actuator, 0])
    if model.actuator_trntype[actuator] == mujoco.mjtTrn.mjTRN_JOINT:
        return {target: gear}
    if model.actuator_trntype[actuator] != mujoco.mjtTrn.mjTRN_TENDON:
        return {}
    first = int(model.tendon_adr[target])
    wraps = range(first, first + int(model.tendon_num[target]))
    return {
        int(model.wrap_objid[wrap]): gear * float(model.wrap_prm[wrap])
        for wrap in wraps
        if model.wrap_type[wrap] == mujoco.mjtWrap.mjWRAP_JOINT
    }


def _open_and_closed(
    model: mujoco.MjModel, actuator: int, moved: dict[int, float], hand: list[int]
) -> tuple[float, float]:
    low, high = (float(value) for value in model.actuator_ctrlrange[actuator])
    ends = _ends(model, actuator, moved) if model.actuator_ctrllimited[actuator] else None
    spread_low, spread_high = (_spread(model, positions, hand) for positions in ends or ({}, {}))
    if abs(spread_high - spread_low) <= CLEAR_OPENING * max(spread_low, spread_high):
        name = mujoco.mj_id2name(model, ACTUATOR, actuator) or f"actuator {actuator}"
        raise SceneError(
            f"the gripper's actuator '{name[:80]}' moves the fingers, but neither end of its range opens them further",
            hint="describe the arm in `robot`, with the gripper's open and closed values",
        )
    return (high, low) if spread_high > spread_low else (low, high)


def _ends(
    model: mujoco.MjModel, actuator: int, moved: dict[int, float]
) -> tuple[dict[int, float], dict[int, float]] | None:
    """Return where the least and the largest control send its joints: to their limits, or to the servo's target."""
    gain = float(model.actuator_gainprm[actuator, 0])
    if all(model.jnt_limited[joint] for joint in moved):
        low, high = (
            {joint: float(model.jnt_range[joint, int(length * gain * sign > 0)]) for joint, length in moved.items()}
            for sign in (-1, 1)
        )
        return low, high
    offset, stiffness = (float(value) for value in model.actuator_biasprm[actuator, :2])
    total = sum(length**2 for length in moved.values())
    if model.actuator_biastype[actuator] != mujoco.mjtBias.mjBIAS_AFFINE or not stiffness or not total:
        return None
    low, high = (
        {joint: -(gain * float(control) + offset) / stiffness * length / total for joint, length in moved.items()}
        for control in model.actuator_ctrlrange[actuator]
    )
    return low, high


def _spread(model: mujoco.MjModel, positions: dict[int, float], hand: list[int]) -> float:
    """Return how far apart the hand's parts lie [m2] with some of its joints at these positions."""
    data = mujoco.MjData(model)
    for joint, position in positions.items():
        data.qpos[model.jnt_qposadr[joint]] = position
    mujoco.mj_kinematics(model, data)
    return float(data.xipos[hand].var(axis=0).sum())
