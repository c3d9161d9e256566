"""Each bundled arm picks up the red cube, by its actuators and friction alone."""

import numpy as np
from bundled_arm import BundledArm

ABOVE = np.array([0, 0, 0.1])
HIGH = np.array([0, 0, 0.13])
# The WidowX' finger tips are 15 mm past its grasp point: a little above the cube's centre, they clear the
# table.
CLEARANCE = {"panda": np.array([0, 0, 0.0]), "widowx": np.array([0, 0, 0.005])}


def grasp(arm: BundledArm) -> np.ndarray:
    """Close the gripper on the red cube; return where the cube stood."""
    down = arm.data.site("ee").xmat.reshape(3, 3).copy()
    cube = arm.position("red_cube")
    arm.move_to(cube + ABOVE, down, seconds=1.5)
    arm.move_to(cube + CLEARANCE[arm.robot], down, seconds=1.0)
    arm.open_gripper(0.0, seconds=0.6)
    arm.move_to(cube + HIGH, down, seconds=1.0)
    return cube


def test_it_lifts_the_red_cube_and_holds_it_for_a_second(arm: BundledArm):
    others = {name: arm.position(name) for name in ("blue_cube", "green_sphere")}
    start = grasp(arm)
    lifted = arm.position("red_cube")
    arm.step(1.0)
    held = arm.position("red_cube")

    assert lifted[2] - start[2] > 0.08
    assert held[2] - start[2] > 0.08
    assert np.abs(held - lifted).max() < 0.001
    for name, position in others.items():
        assert np.abs(arm.position(name) - position).max() < 0.001


def test_it_lets_the_cube_go_when_the_gripper_opens(arm: BundledArm):
    start = grasp(arm)
    arm.open_gripper(1.0, seconds=1.0)
    assert arm.position("red_cube")[2] - start[2] < 0.03


def test_the_pads_do_not_sink_into_the_cube(arm: BundledArm):
    grasp(arm)
    cube = arm.model.geom("red_cube").id
    pads = [contact.dist for contact in arm.data.contact if cube in contact.geom]
    assert pads
    assert min(pads) > -0.001
