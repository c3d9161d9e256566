"""What an action means: frames, cuts, the pose it starts from, and the gripper's two ways."""

import numpy as np
import pytest
from controlled_arm import ControlledArm, action, distance, is_at, moved

from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import ControlState
from vla_server_base.scenes.worker.arms.rotations import product, quaternion_from_rpy, quaternion_from_vector, rotate

PANDA = bundled_scene("panda", "tabletop")
TILTED = np.array([0.3, -0.4, 0.2, -2.3, 0.3, 2.1, 0.5])


def after(sim: ControlledArm, state: ControlState, what: np.ndarray) -> ControlState:
    return sim.controller.command(sim.data, state, what)[0]


def test_in_the_base_frame_a_delta_is_along_and_about_the_axes_of_the_base():
    sim = ControlledArm(PANDA)
    state = sim.state_at(TILTED)
    wanted = moved(sim.pose_of(state), np.array([0.01, 0.02, -0.03]), (0.1, 0, 0))
    reached = sim.pose_of(after(sim, state, np.array([0.01, 0.02, -0.03, 0.1, 0, 0, 1])))
    assert is_at(reached, wanted)


def test_in_the_tool_frame_a_delta_is_along_and_about_the_axes_of_the_tool():
    sim = ControlledArm(PANDA, frame="tool")
    state = sim.state_at(TILTED)
    position, quaternion = sim.pose_of(state)
    turn = quaternion_from_vector(np.array([0, 0, 0.2]))
    wanted = (position + rotate(np.array([0, 0, 0.03]), quaternion), product(quaternion, turn))
    reached = sim.pose_of(after(sim, state, np.array([0, 0, 0.03, 0, 0, 0.2, 1])))
    assert is_at(reached, wanted)


def test_roll_pitch_and_yaw_are_about_fixed_axes_in_this_order():
    roll, pitch, yaw = (
        quaternion_from_vector(angle * axis) for angle, axis in zip((0.3, -0.4, 0.5), np.eye(3), strict=True)
    )
    np.testing.assert_allclose(quaternion_from_rpy(np.array([0.3, -0.4, 0.5])), product(yaw, product(pitch, roll)))


def test_a_turned_base_turns_the_deltas_with_it():
    turned = PANDA.replace('<body name="link0"', '<body name="link0" pos="0.1 0.2 0.3" quat="0.7071068 0 0 0.7071068"')
    sim = ControlledArm(turned)
    state = sim.state_at(sim.arm.home)
    sim.stand_at(after(sim, state, action((0.03, 0, 0))).joint_targets)
    tip, home = sim.data.site("ee").xpos.copy(), sim.pose_of(state)[0]
    np.testing.assert_allclose(tip - [0.1, 0.2, 0.3], [-home[1], home[0] + 0.03, home[2]], atol=1e-4)


def test_long_deltas_are_cut_along_their_direction():
    sim = ControlledArm(PANDA, max_translation_m=0.02, max_rotation_rad=0.1)
    state = sim.state_at(sim.arm.home)
    wanted = moved(sim.pose_of(state), np.array([0.012, 0, 0.016]), (0, 0, -0.1))
    reached = sim.pose_of(after(sim, state, np.array([0.3, 0, 0.4, 0, 0, -0.9, 1])))
    assert is_at(reached, wanted)


def test_a_delta_starts_from_where_the_arm_was_told_to_go_not_from_where_it_sags():
    sim = ControlledArm(PANDA)
    state = sim.state_at(sim.arm.home)
    sim.stand_at(sim.arm.home + 0.03)
    reached = sim.pose_of(after(sim, state, action((0.01, 0, 0))))
    assert is_at(reached, moved(sim.pose_of(state), np.array([0.01, 0, 0]), (0, 0, 0)))


def test_the_targets_of_an_arm_that_is_held_do_not_run_away():
    sim = ControlledArm(PANDA)
    state = sim.state_at(sim.arm.home)
    for _ in range(20):
        state = after(sim, state, action((0, 0, -0.05), (0, 0, 0.25)))
    metres, radians = distance(sim.pose_of(state), sim.arm.pose(sim.data))
    assert 0.09 < metres <= 0.101
    assert 0.45 < radians <= 0.51


def test_an_arm_starts_where_its_controls_say():
    sim = ControlledArm(PANDA)
    sim.stand_at(sim.arm.home + 0.02)
    started = sim.controller.start(sim.data)
    np.testing.assert_allclose(started.joint_targets, np.asarray(sim.arm.home))
    assert started.gripper_opening == 1


@pytest.mark.parametrize("controls", [0.0, 0.9])
def test_controls_that_were_never_meant_are_not_obeyed(controls):
    sim = ControlledArm(PANDA)
    sim.data.ctrl[:] = controls
    sim.data.joint("finger_joint1").qpos[0] = sim.data.joint("finger_joint2").qpos[0] = 0.03
    sim.stand_at(TILTED)
    started = sim.controller.start(sim.data)
    np.testing.assert_allclose(started.joint_targets, TILTED)
    assert started.gripper_opening == pytest.approx(0.75)


def test_an_absolute_gripper_opens_above_the_threshold():
    sim = ControlledArm(PANDA, gripper_threshold=0.4)
    state = sim.state_at(sim.arm.home)
    assert [after(sim, state, action(gripper=value)).gripper_opening for value in (0.0, 0.39, 0.41, 1.0)] == [
        0,
        0,
        1,
        1,
    ]


def gripper_openings(sim: ControlledArm, values: list[float]) -> list[float]:
    state, seen = sim.state_at(sim.arm.home), []
    for value in values:
        state = after(sim, state, action(gripper=value))
        seen.append(state.gripper_opening)
    return seen


def test_a_sticky_gripper_closes_whole_at_a_fall_and_heeds_nothing_for_fifteen_steps():
    sim = ControlledArm(PANDA, gripper="sticky")
    falls_then_rises = [1.0, 1.0, 0.2, 1.0, *[0.0, 1.0] * 6, 0.0, 0.0, 1.0]
    assert gripper_openings(sim, falls_then_rises) == [1, 1, *[0] * 15, 0, 1][: len(falls_then_rises)]


def test_a_sticky_gripper_heeds_no_slow_change():
    sim = ControlledArm(PANDA, gripper="sticky")
    assert gripper_openings(sim, [1.0, 0.6, 0.2, 0.0, 0.45]) == [1] * 5
