"""Finds arms and grippers that nobody named, by how a scene's bodies, joints and actuators hang together."""
# pyright: reportAttributeAccessIssue=false
# (mujoco's names are in compiled modules, which pyright cannot read)

import re
from collections.abc import Iterator

import mujoco
import numpy as np

from vla_server_base.errors import SceneError
from vla_server_base.scenes.robots import Gripper, Robot
from vla_server_base.scenes.worker.scene_names import ACTUATOR, BODY, JOINT, SITE, index, names

MIN_HINGES = 5
"""Fewer actuated hinges in a row are a leg, a finger or a door."""

TOOL_SITES = ("ee", "ee_site", "eef", "end_effector", "tcp", "pinch", "grip_site", "grasp_site", "attachment_site")
"""How sites at an arm's end are called, after any prefix and before a number; the first found is taken."""

CLEAR_OPENING = 0.01
"""A gripper is open where its parts lie further apart than where it is closed, by this part of their spread."""


def subtree(model: mujoco.MjModel, root: int) -> frozenset[int]:
    """Return a body and all that hang from it."""
    inside = {root}
    for body in range(root + 1, model.nbody):  # a body comes after its parent
        if int(model.body_parentid[body]) in inside:
            inside.add(body)
    return frozenset(inside)


def find_chains(model: mujoco.MjModel) -> list[Robot]:
    """Return every chain of actuated hinges that ends in a site named for it, or else in something with fingers.

    Of two chains one of which goes on from the other the shorter one is the arm, the rest its gripper's.
    """
    hinges = _driven_hinges(model)
    found: dict[tuple[str, ...], Robot] = {}
    for ends in (_tool_sites(model), _palms(model)):
        chains = [(_chain(model, hinges, body), body, name) for body, name in ends]
        for joints, body, name in sorted(chains, key=lambda chain: len(chain[0])):
            if len(joints) >= MIN_HINGES and not any(_goes_on(joints, other) for other in found):
                offset = _middle_of_fingers(model, body) if index(model, SITE, name) < 0 else (0.0, 0.0, 0.0)
                found[joints] = Robot(name="arm", joints=joints, end_effector=name, offset=offset)
    return list(found.values())


def _driven_hinges(model: mujoco.MjModel) -> dict[int, list[str]]:
    """Return the named hinges that an actuator drives, by the body that they move."""
    driven = {int(joint) for joint in model.actuator_trnid[model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT, 0]}
    hinges: dict[int, list[str]] = {}
    for joint, name in enumerate(names(model, JOINT)):
        if joint in driven and name and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE:
            hinges.setdefault(int(model.jnt_bodyid[joint]), []).append(name)
    return hinges


def _tool_sites(model: mujoco.MjModel) -> Iterator[tuple[int, str]]:
    for stem in TOOL_SITES:
        is_named_so = re.compile(rf"(?:^|[^a-z]){stem}[^a-z]*$", re.IGNORECASE)
        for site, name in enumerate(names(model, SITE)):
            if is_named_so.search(name):
                yield int(model.site_bodyid[site]), name


def _palms(model: mujoco.MjModel) -> Iterator[tuple[int, str]]:
    """Yield the named bodies that carry two or more bodies with joints."""
    jointed = model.body_parentid[model.body_jntnum > 0]
    num_fingers = np.bincount(jointed, minlength=model.nbody)
    for body, name in enumerate(names(model, BODY)):
        if body and name and num_fingers[body] > 1:
            yield body, name


def _chain(model: mujoco.MjModel, hinges: dict[int, list[str]], body: int) -> tuple[str, ...]:
    """Return the driven hinges that move a body, from the base on."""
    chain: list[str] = []
    while body:
        chain = hinges.get(body, []) + chain
        body = int(model.body_parentid[body])
    return tuple(chain)


def _goes_on(joints: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shared = min(len(joints), len(other))
    return joints[:shared] == other[:shared]


def _middle_of_fingers(model: mujoco.MjModel, palm: int) -> tuple[float, float, float]:
    """Return the point between a palm's fingers, in its frame."""
    fingers = np.flatnonzero((model.body_parentid == palm) & (model.body_jntnum > 0))
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    middle = data.subtree_com[fingers].mean(axis=0) - data.xpos[palm]
    x, y, z = data.xmat[palm].reshape(3, 3).T @ middle
    return float(x), float(y), float(z)


def find_gripper(model: mujoco.MjModel, robot: Robot) -> Gripper | None:
    """Return the gripper at a robot's end, or None where no actuator moves anything there.

    Raises:
        SceneError: it cannot be told which end of an actuator's range is open.
    """
    hand = sorted(subtree(model, _last_body(model, robot)))
    found = {
        model.actuator(actuator).name: _open_and_closed(model, actuator, moved, hand)
        for actuator, moved in _finger_actuators(model, robot).items()
    }
    if not found:
        return None
    opened, closed = zip(*found.values(), strict=True)
    return Gripper(actuators=tuple(found), open=opened, closed=closed)


def find_grasp_site(model: mujoco.MjModel, robot: Robot) -> str | None:
    """Return the site of the gripper at a robot's end that is named for where it grasps, None where there is none."""
    fingers = [int(model.jnt_bodyid[joint]) for moved in _finger_actuators(model, robot).values() for joint in moved]
    if not fingers:
        return None
    hand = subtree(model, _palm(model, fingers))
    return next((name for body, name in _tool_sites(model) if body in hand), None)


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


def _last_body(model: mujoco.MjModel, robot: Robot) -> int:
    return int(model.jnt_bodyid[index(model, JOINT, robot.joints[-1])])


def _finger_actuators(model: mujoco.MjModel, robot: Robot) -> dict[int, dict[int, float]]:
    """Return the actuators that move joints of what hangs from a robot's last joint, and nothing else: see `_moved`."""
    hand = subtree(model, _last_body(model, robot))
    arm = {index(model, JOINT, name) for name in robot.joints}
    found = {}
    for actuator in range(model.nu):
        moved = _moved(model, actuator)
        if moved and not arm & moved.keys() and all(int(model.jnt_bodyid[joint]) in hand for joint in moved):
            found[actuator] = moved
    return found


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
            f"it cannot be told where the gripper's actuator '{name[:80]}' is open and where closed",
            hint="describe the arm in `robot`, with the gripper's open and closed values",
        )
    return (high, low) if spread_high > spread_low else (low, high)


def _ends(
    model: mujoco.MjModel, actuator: int, moved: dict[int, float]
) -> tuple[dict[int, float], dict[int, float]] | None:
    """Return where its joints are sent by the least and by the largest control: to their limits, or as a servo says."""
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
    """Return how far apart the hand's parts lie [m2] with some of its joints elsewhere."""
    data = mujoco.MjData(model)
    for joint, position in positions.items():
        data.qpos[model.jnt_qposadr[joint]] = position
    mujoco.mj_kinematics(model, data)
    return float(data.xipos[hand].var(axis=0).sum())
