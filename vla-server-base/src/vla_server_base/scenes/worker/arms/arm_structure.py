"""Finds arms that have no known names, by how a scene's bodies, joints and actuators are connected."""

import re
from collections.abc import Iterator

import mujoco
import numpy as np

from vla_server_base.scenes.robots import RobotDescription
from vla_server_base.scenes.worker.scene_names import BODY, JOINT, SITE, index, names

MIN_HINGES = 5
"""Fewer actuated hinges in a row are a leg, a finger or a door."""

TOOL_SITES = ("ee", "ee_site", "eef", "end_effector", "tcp", "pinch", "grip_site", "grasp_site", "attachment_site")
"""Names of sites at an arm's end, after any prefix and before a number; the first match counts."""


def subtree(model: mujoco.MjModel, root: int) -> frozenset[int]:
    """Return a body and all bodies below it."""
    inside = {root}
    for body in range(root + 1, model.nbody):  # a body comes after its parent
        if int(model.body_parentid[body]) in inside:
            inside.add(body)
    return frozenset(inside)


def find_chains(model: mujoco.MjModel) -> list[RobotDescription]:
    """Return every chain of actuated hinges that ends at a tool site, or else at a body with fingers.

    Where one chain continues another, the shorter one is the arm and the rest belongs to its gripper.
    """
    hinges = _driven_hinges(model)
    arms: dict[tuple[str, ...], RobotDescription] = {}
    for ends in (tool_sites(model), _palms(model)):
        chains = [(_chain(model, hinges, body), body, name) for body, name in ends]
        for joints, body, name in sorted(chains, key=lambda chain: len(chain[0])):
            if len(joints) >= MIN_HINGES and not any(_continues(joints, other) for other in arms):
                offset = _middle_of_fingers(model, body) if index(model, SITE, name) < 0 else (0.0, 0.0, 0.0)
                arms[joints] = RobotDescription(name="arm", joints=joints, end_effector=name, offset=offset)
    return list(arms.values())


def _driven_hinges(model: mujoco.MjModel) -> dict[int, list[str]]:
    """Return the named hinges that an actuator drives, by the body that they move."""
    driven = {int(joint) for joint in model.actuator_trnid[model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT, 0]}
    hinges: dict[int, list[str]] = {}
    for joint, name in enumerate(names(model, JOINT)):
        if joint in driven and name and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE:
            hinges.setdefault(int(model.jnt_bodyid[joint]), []).append(name)
    return hinges


def tool_sites(model: mujoco.MjModel) -> Iterator[tuple[int, str]]:
    """Yield the sites that are named as an arm's tool, each after the body that it is on."""
    for stem in TOOL_SITES:
        pattern = re.compile(rf"(?:^|[^a-z]){stem}[^a-z]*$", re.IGNORECASE)
        for site, name in enumerate(names(model, SITE)):
            if pattern.search(name):
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


def _continues(joints: tuple[str, ...], other: tuple[str, ...]) -> bool:
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
