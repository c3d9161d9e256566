"""Laws of the way from a wanted pose to joint targets, over the workspace of both bundled arms."""

import numpy as np
import pytest
from controlled_arm import ControlledArm, action, distance, is_at, moved

from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.worker.arms.rotations import rotate, rotation_between

SINGULAR = {
    "panda": {
        "stretched": (0, 0.3, 0, -0.0698, 0, 1.6, 0),
        "upright": (0, 0, 0, -0.0698, 0, 0, 0),
        "wrist": (0, -0.6, 0, -2.2, 0, 0, 0.78),
        "shoulder": (0, 0, 0, -1.57, 0, 1.57, 0),
    },
    "widowx": {
        "stretched": (0, 1.2, -1.37, 0, 0, 0),
        "upright": (0, -0.2, -1.3, 0, 0, 0),
        "wrist": (0, 0.04, 0.22, 0, 0, 0),
        "over the base": (0, -0.55, 0.6, 0, 0.3, 0),
    },
}
SINGULAR_POSES = [(robot, pose) for robot, poses in SINGULAR.items() for pose in poses]


@pytest.fixture(params=["panda", "widowx"])
def free_arm(request) -> ControlledArm:
    """An arm whose actions are not cut."""
    return ControlledArm(bundled_scene(request.param, "tabletop"), max_translation_m=1.0, max_rotation_rad=3.0)


def command_to(sim: ControlledArm, state, goal):
    position, quaternion = sim.pose_of(state)
    return sim.controller.command(sim.data, state, action(goal[0] - position, rotation_between(quaternion, goal[1])))


@pytest.mark.parametrize("span", [0.05, 0.3])
def test_a_pose_that_a_bounded_step_can_reach_is_reached(free_arm, span):
    rng, limits = np.random.default_rng(7), free_arm.arm.limits.T
    for _ in range(80):
        joints = free_arm.random_joints(rng)
        goal = free_arm.arm.forward(free_arm.data, np.clip(joints + rng.uniform(-span, span, len(joints)), *limits))
        after, violations = command_to(free_arm, free_arm.state_at(joints), goal)
        assert is_at(free_arm.pose_of(after), goal)
        assert violations == ()
        assert ((limits[0] <= after.joint_targets) & (after.joint_targets <= limits[1])).all()


@pytest.mark.parametrize("robot", ["panda", "widowx"])
def test_a_walk_of_many_steps_reaches_a_far_pose(robot):
    sim, rng = ControlledArm(bundled_scene(robot, "tabletop")), np.random.default_rng(11)
    for _ in range(5):
        joints = np.clip(sim.arm.home + rng.uniform(-0.6, 0.6, np.shape(sim.arm.home)), *sim.arm.limits.T)
        goal, state = sim.arm.forward(sim.data, joints), sim.state_at(sim.arm.home)
        for _ in range(40):
            state, _ = command_to(sim, state, goal)
            sim.stand_at(state.joint_targets)
        assert is_at(sim.pose_of(state), goal)


def test_whatever_is_asked_no_joint_passes_its_limit_or_its_speed(free_arm):
    rng, limits = np.random.default_rng(13), free_arm.arm.limits.T
    for _ in range(25):
        state = free_arm.state_at(free_arm.random_joints(rng))
        for _ in range(3):
            asked = action(rng.normal(size=3), rng.normal(size=3))
            after, _ = free_arm.controller.command(free_arm.data, state, asked)
            assert ((limits[0] <= after.joint_targets) & (after.joint_targets <= limits[1])).all()
            step = np.abs(after.joint_targets - state.joint_targets)
            assert (step <= free_arm.arm.velocity_limits / free_arm.settings.rate_hz + 1e-9).all()
            state = after


def test_a_limit_that_keeps_the_arm_from_the_pose_is_named():
    sim = ControlledArm(bundled_scene("widowx", "tabletop"))
    state = sim.state_at(np.array([0, 0.04, 0.22, 0, 1.3, 3.14158]))
    # The tool's z axis is that of the last joint, which stands at its limit.
    after, violations = sim.controller.command(sim.data, state, turned_about_tool(sim, state, 0.2))
    assert after.joint_targets[5] == sim.arm.limits[5, 1]
    assert [(violation.kind, violation.what) for violation in violations] == [("joint", "wrist_rotate")]
    assert violations[0].value > violations[0].limit == sim.arm.limits[5, 1]


def turned_about_tool(sim: ControlledArm, state, angle: float) -> np.ndarray:
    return action(rotation=rotate(np.array([0, 0, angle]), sim.pose_of(state)[1]))


@pytest.mark.parametrize(("robot", "pose"), SINGULAR_POSES)
def test_at_a_singular_pose_a_small_wish_moves_no_joint_far(robot, pose):
    sim, rng = ControlledArm(bundled_scene(robot, "tabletop")), np.random.default_rng(17)
    for _ in range(25):
        state = sim.state_at(np.clip(SINGULAR[robot][pose], *sim.arm.limits.T))
        translation, rotation = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 3)))
        after, _ = sim.controller.command(sim.data, state, action(0.001 * translation, 0.004 * rotation))
        assert np.abs(after.joint_targets - state.joint_targets).max() < 0.12


@pytest.mark.parametrize(("robot", "pose"), SINGULAR_POSES)
def test_at_a_singular_pose_no_wish_takes_the_arm_further_off_than_standing_still(robot, pose):
    sim, rng = ControlledArm(bundled_scene(robot, "tabletop")), np.random.default_rng(19)
    for size in (0.01, 0.05):
        for _ in range(10):
            state = sim.state_at(np.clip(SINGULAR[robot][pose], *sim.arm.limits.T))
            translation, rotation = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 3)))
            goal = moved(sim.pose_of(state), size * translation, 4 * size * rotation)
            after, _ = sim.controller.command(sim.data, state, action(size * translation, 4 * size * rotation))
            metres, radians = distance(sim.pose_of(after), goal)
            assert np.hypot(metres, radians / 4) <= np.hypot(size, size) + 1e-3


@pytest.mark.parametrize("robot", ["panda", "widowx"])
def test_an_arm_pulled_out_beyond_its_reach_comes_back_the_way_it_went(robot):
    sim = ControlledArm(bundled_scene(robot, "tabletop"))
    state = sim.state_at(sim.arm.home)
    start, out = sim.pose_of(state), np.array([0.04, 0, 0])
    for _ in range(25):
        state = step_along(sim, state, out, start[1])
    furthest = sim.pose_of(state)[0][0]
    while sim.pose_of(state)[0][0] > start[0][0] + 0.01:
        state = step_along(sim, state, -out, start[1])
    assert furthest > start[0][0] + 0.1
    assert distance(sim.pose_of(state), start)[1] < 0.02


def step_along(sim: ControlledArm, state, shift, quaternion):
    before = sim.pose_of(state)
    state, _ = command_to(sim, state, (before[0] + shift, quaternion))
    sim.stand_at(state.joint_targets)
    assert distance(sim.pose_of(state), before)[0] < 0.06
    return state


def test_what_freedom_a_pose_leaves_brings_the_arm_home():
    sim = ControlledArm(bundled_scene("panda", "tabletop"))
    # The elbow is swung out; the hand's pose is held.
    away = sim.arm.home + np.array([0.5, 0, -0.5, 0, 0, 0, 0])
    state = sim.state_at(away)
    held = sim.pose_of(state)
    for _ in range(30):
        state, _ = command_to(sim, state, held)
        sim.stand_at(state.joint_targets)
    assert is_at(sim.pose_of(state), held)
    assert np.linalg.norm(state.joint_targets - sim.arm.home) < 0.7 * np.linalg.norm(away - sim.arm.home)
