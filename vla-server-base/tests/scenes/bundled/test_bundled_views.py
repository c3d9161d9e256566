"""What the cameras see at home, computed without a renderer: projections, and rays for what hides what."""

import itertools

import mujoco
import numpy as np
import pytest
from bundled_arm import BASES, OBJECTS, BundledArm

from vla_server_base.tabletop.tables import TABLES

ARM_BODIES = {
    # The whole of it would leave an object on the table four pixels of a policy's 128.
    "panda": ("link0", "hand"),
    "widowx": ("base_link", "upper_arm_link", "upper_forearm_link", "wrist_link", "gripper_link"),
}
FORWARD, LEFT, UP = np.eye(3)


def image_coordinates(arm: BundledArm, camera: str, point: np.ndarray) -> np.ndarray:
    """Return where a point falls in a square image: x to the right, y up, both in -1 to 1 if inside."""
    view = arm.data.camera(camera)
    right, up, depth = view.xmat.reshape(3, 3).T @ (point - view.xpos) * [1, 1, -1]
    assert depth > 0, f"{point} is behind the camera"
    half = np.tan(np.radians(arm.model.camera(camera).fovy[0]) / 2)
    return np.array([right, up]) / (depth * half)


def seen_along(arm: BundledArm, camera: str, point: np.ndarray) -> str:
    """Return the name of the first geom from the camera towards a point; its body's where it has none."""
    view = arm.data.camera(camera)
    hit = np.array([-1], dtype=np.int32)
    mujoco.mj_ray(arm.model, arm.data, view.xpos, point - view.xpos, None, 1, -1, hit)
    geom = arm.model.geom(int(hit[0]))
    return geom.name or arm.model.body(geom.bodyid[0]).name


@pytest.mark.parametrize("name", OBJECTS)
def test_primary_sees_every_object_unhidden(arm: BundledArm, name: str):
    assert np.abs(image_coordinates(arm, "primary", arm.position(name))).max() < 0.85
    assert seen_along(arm, "primary", arm.position(name)) == name


@pytest.mark.parametrize("height", [0.0, 0.1])
def test_primary_sees_whatever_stands_where_objects_are_put(arm: BundledArm, height: float):
    table = TABLES[arm.robot]
    for x, y in itertools.product(table.x, table.y):
        assert np.abs(image_coordinates(arm, "primary", np.array([x, y, height]))).max() < 0.95


def test_primary_sees_base_and_gripper(arm: BundledArm):
    for name in ARM_BODIES[arm.robot]:
        assert np.abs(image_coordinates(arm, "primary", arm.position(name))).max() < 0.95
    assert np.abs(image_coordinates(arm, "primary", arm.data.site("ee").xpos)).max() < 0.8
    assert seen_along(arm, "primary", arm.position(BASES[arm.robot]) + 0.03 * UP) == BASES[arm.robot]


@pytest.mark.parametrize("fraction", [0.0, 1.0])
@pytest.mark.parametrize("side", ["left", "right"])
def test_wrist_sees_the_finger_pads_open_and_closed(arm: BundledArm, side: str, fraction: float):
    arm.open_gripper(fraction, seconds=1.0)
    pad = arm.data.geom(f"{side}_pad").xpos
    assert np.abs(image_coordinates(arm, "wrist", pad)).max() < 0.95
    assert seen_along(arm, "wrist", pad) == f"{side}_pad"


def test_wrist_sees_the_table_between_the_fingers(arm: BundledArm):
    below = arm.data.site("ee").xpos * [1, 1, 0]
    assert np.abs(image_coordinates(arm, "wrist", below)).max() < 0.95
    assert seen_along(arm, "wrist", below) == "table"


def test_wrist_keeps_forward_up(arm: BundledArm):
    # With the gripper pointing down, what is farther from the base is higher in the image, left is left.
    here = arm.data.site("ee").xpos * [1, 1, 0]
    centre = image_coordinates(arm, "wrist", here)
    farther = image_coordinates(arm, "wrist", here + 0.05 * FORWARD)
    left = image_coordinates(arm, "wrist", here + 0.05 * LEFT)
    assert farther[1] > centre[1]
    assert left[0] < centre[0]
