"""Poses of moving bodies, 30 frames a simulated second, and bodies that are put elsewhere."""

import re

import mujoco
import numpy as np
import pytest

from vla_server_base.errors import SceneRefused, SceneStateError, UnknownName
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import BodyPose, Bounds, ControlSettings, RolloutRequest, SceneState
from vla_server_base.scenes.worker.simulation.rollout import Simulation

FORWARD = np.array([0.03, 0.01, 0, 0, 0, 0.1, 1.0])
DOWN = np.array([0, 0, -0.05, 0, 0, 0, 0.0])
BALLS = """<mujoco><worldbody>{}</worldbody></mujoco>"""
BALL = '<body><freejoint/><geom size="0.01" mass="1"/></body>'
CORNER = np.array([0.55, 0.2, 0.3])


def compiled(xml: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(xml)


def simulation(xml: str) -> Simulation:
    model = compiled(xml)
    return Simulation(model, mujoco.MjData(model))


@pytest.fixture(params=["panda", "widowx"])
def scene(request):
    return bundled_scene(request.param, "tabletop")


@pytest.fixture
def robot(scene):
    return simulation(scene)


def at_home(actions=(), **rest) -> RolloutRequest:
    return RolloutRequest(start=SceneState(), actions=np.reshape(actions, (-1, 7)).astype(float), **rest)


def put(body="red_cube", position=CORNER, quaternion=None) -> BodyPose:
    return BodyPose(body=body, position=position, quaternion=quaternion)


def poses_of(model: mujoco.MjModel, qpos: np.ndarray, bodies: tuple[int, ...]) -> np.ndarray:
    data = mujoco.MjData(model)
    data.qpos = qpos
    mujoco.mj_kinematics(model, data)
    return np.hstack([data.xpos[list(bodies)], data.xquat[list(bodies)]])


def test_the_frames_are_those_of_mujoco_stepped_to_the_same_times(scene, monkeypatch):
    """MuJoCo itself, from the same start with the same controls in each physics step."""
    model, controls = compiled(scene), []
    driven = Simulation(model, mujoco.MjData(model))
    step = mujoco.mj_step
    monkeypatch.setattr(mujoco, "mj_step", lambda model, data: (controls.append(data.ctrl.copy()), step(model, data)))
    reply = driven.roll_out(at_home([FORWARD, DOWN], hold_s=0.1, poses=True))
    monkeypatch.undo()
    own = mujoco.MjData(model)
    own.qpos, own.qvel, own.ctrl = _home(driven)
    expected = {}
    for ctrl in controls:
        own.ctrl = ctrl
        mujoco.mj_step(model, own)
        expected[round(own.time, 9)] = poses_of(model, own.qpos, reply.names.moving_bodies)
    frames = [step.body_poses for step in reply.steps]
    times = np.concatenate([each.times_s for each in frames])
    assert len(times) == 3 + 6 + 6
    for time, poses in zip(times, np.concatenate([each.poses for each in frames]), strict=True):
        np.testing.assert_allclose(poses, expected[round(time, 9)], rtol=0, atol=1e-12)


def _home(robot: Simulation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    start = robot.roll_out(at_home()).state
    return start.qpos, start.qvel, start.ctrl


def test_asking_for_poses_changes_nothing_bit_for_bit(robot):
    bounds = Bounds(workspace=np.array([[0, -1, 0.05], [1, 1, 1]], float))
    chunk = [FORWARD, DOWN, -FORWARD, DOWN, DOWN]
    plain, with_poses = (
        robot.roll_out(at_home(chunk, hold_s=0.3, bounds=bounds, clamp=True, poses=poses)) for poses in (False, True)
    )
    np.testing.assert_array_equal(plain.end.physics, with_poses.end.physics)
    for before, after in zip(plain.steps, with_poses.steps, strict=True):
        assert before.body_poses is None
        assert after.body_poses is not None
        assert before.violations == after.violations
        assert (before.scale, before.contacts) == (after.scale, after.contacts)
        np.testing.assert_array_equal(before.state.qpos, after.state.qpos)
        np.testing.assert_array_equal(before.pose.position, after.pose.position)


def test_asking_for_poses_changes_nothing_where_motors_are_driven_by_inverse_dynamics():
    panda = re.sub(r"<keyframe>.*</keyframe>", "", bundled_scene("panda", "tabletop"), flags=re.DOTALL)
    driven, count = re.subn(r'<position name="joint\d" class="\w+" (joint="joint\d")/>', r"<motor \1/>", panda)
    assert count == 7
    plain, with_poses = (
        simulation(driven).roll_out(at_home([FORWARD, DOWN] * 3, poses=poses)) for poses in (False, True)
    )
    np.testing.assert_array_equal(plain.end.physics, with_poses.end.physics)


@pytest.mark.parametrize(("rate_hz", "frames"), [(5.0, 6), (10.0, 3), (15.0, 2), (30.0, 1), (50.0, 1)])
def test_there_are_thirty_frames_a_second_and_the_last_is_the_steps_end(robot, rate_hz, frames):
    reply = robot.roll_out(at_home([FORWARD] * 3, control=ControlSettings(rate_hz=rate_hz), poses=True))
    for step in reply.steps:
        assert len(step.body_poses.times_s) == frames
        assert step.body_poses.times_s[-1] == step.state.time_s
        gaps = np.diff([step.state.time_s - 1 / rate_hz, *step.body_poses.times_s])
        np.testing.assert_allclose(gaps, 1 / rate_hz / frames, atol=2.1e-3)


def test_the_last_frame_is_the_pose_of_the_state_and_the_reply_begins_with_the_start(scene, robot):
    reply = robot.roll_out(at_home([FORWARD], poses=True))
    model, moving = compiled(scene), reply.names.moving_bodies
    np.testing.assert_array_equal(reply.body_poses.times_s, [reply.state.time_s])
    np.testing.assert_allclose(reply.body_poses.poses[0], poses_of(model, reply.state.qpos, moving), atol=1e-12)
    (step,) = reply.steps
    np.testing.assert_allclose(step.body_poses.poses[-1], poses_of(model, step.state.qpos, moving), atol=1e-12)


def test_moving_bodies_are_those_that_are_not_welded_to_the_world(robot):
    names = robot.roll_out(at_home()).names
    moving = {names.bodies[index] for index in names.moving_bodies}
    assert {"red_cube", "blue_cube"} < moving
    assert "world" not in moving


def test_frames_of_a_hold_come_first_in_the_step_that_follows(robot):
    reply = robot.roll_out(at_home([FORWARD, DOWN], hold_s=0.2, poses=True))
    first, second = (step.body_poses.times_s for step in reply.steps)
    assert (len(first), len(second)) == (12, 6)
    np.testing.assert_allclose(first, np.arange(1, 13) / 30, atol=2e-3)
    np.testing.assert_allclose(second[0] - first[-1], 1 / 30, atol=2e-3)


def test_a_motion_that_the_clamp_takes_back_leaves_no_frames(robot):
    start = robot.roll_out(at_home()).pose.position
    workspace = np.stack([start - 1, start + np.array([0.01, 1, 1])])
    chunk = [[0.02, 0, 0, 0, 0, 0, 1]] * 4
    reply = robot.roll_out(at_home(chunk, bounds=Bounds(workspace=workspace), clamp=True, poses=True))
    assert reply.steps[-1].scale < 1, "it was tried in vain"
    times = np.concatenate([step.body_poses.times_s for step in reply.steps])
    assert len(times) == 4 * 6
    assert (np.diff(times) > 0).all()


def test_a_coarse_simulation_has_a_frame_for_each_of_its_steps():
    model = compiled(bundled_scene("panda", "tabletop"))
    model.opt.timestep = 0.1
    coarse = Simulation(model, mujoco.MjData(model))
    (step,) = coarse.roll_out(at_home([np.zeros(7)], poses=True)).steps
    np.testing.assert_allclose(step.body_poses.times_s, [0.1, 0.2])


def test_more_poses_than_one_reply_takes_are_refused_with_the_limit():
    many = simulation(BALLS.format(BALL * 2000))
    request = RolloutRequest(start=SceneState(), control=None, hold_s=10.0, poses=True)
    with pytest.raises(SceneRefused, match="2000 moving bodies in 301 frames would be 4214000 numbers"):
        many.roll_out(request)


def test_a_body_that_is_put_elsewhere_is_there_at_rest_and_turned(robot):
    turned = np.array([1.0, 0, 0, 1.0])
    falling = robot.roll_out(at_home([FORWARD], body_poses=(put(),)))
    request = RolloutRequest(start=falling.end, body_poses=(put(quaternion=turned),), poses=True)
    reply = robot.roll_out(request)
    names = robot.roll_out(at_home()).names
    (frame,) = reply.body_poses.poses
    cube = frame[names.moving_bodies.index(names.bodies.index("red_cube"))]
    np.testing.assert_allclose(cube, [*CORNER, np.sqrt(0.5), 0, 0, np.sqrt(0.5)], atol=1e-12)
    assert falling.steps[0].state.qvel[-18:-12].any()
    assert not reply.state.qvel[-18:-12].any()


@pytest.mark.parametrize("length", [1e-6, 2.0, 1e300])
def test_a_quaternion_may_have_any_length(robot, length):
    turned = length * np.array([0.6, 0, 0, 0.8])
    reply = robot.roll_out(at_home(body_poses=(put(quaternion=turned),)))
    np.testing.assert_allclose(reply.state.qpos[-18:-14], [0.6, 0, 0, 0.8], rtol=1e-12)


def test_without_a_quaternion_the_body_keeps_its_orientation(robot):
    before, after = (robot.roll_out(at_home(body_poses=poses, poses=True)) for poses in ((), (put(),)))
    index = before.names.moving_bodies.index(before.names.bodies.index("red_cube"))
    np.testing.assert_array_equal(before.body_poses.poses[0, index, 3:], after.body_poses.poses[0, index, 3:])
    np.testing.assert_allclose(after.body_poses.poses[0, index, :3], CORNER, atol=1e-12)


def test_bodies_of_the_state_are_put_as_those_of_the_rollout(robot):
    of_state = robot.roll_out(RolloutRequest(start=SceneState(bodies=(put(),))))
    of_rollout = robot.roll_out(at_home(body_poses=(put(),)))
    np.testing.assert_array_equal(of_state.state.qpos, of_rollout.state.qpos)


def test_bodies_of_the_state_are_put_after_its_joint_positions(robot):
    qpos = robot.roll_out(at_home()).state.qpos
    qpos[-21:-18] = 9.0
    start = SceneState(qpos=qpos, qvel=np.ones(len(robot.roll_out(at_home()).state.qvel)), bodies=(put(),))
    state = robot.roll_out(RolloutRequest(start=start)).state
    np.testing.assert_array_equal(state.qpos[-21:-18], CORNER)
    assert (state.qvel[-18:-12].any(), state.qvel[-12:].all()) == (False, True)


def test_bodies_are_put_before_the_hold(robot):
    reply = robot.roll_out(at_home(hold_s=0.1, body_poses=(put(),), poses=True))
    index = reply.names.moving_bodies.index(reply.names.bodies.index("red_cube"))
    fallen = CORNER[2] - reply.body_poses.poses[0, index, 2]
    assert fallen == pytest.approx(9.81 / 2 * 0.1**2, rel=0.05)


def test_an_unknown_body_is_refused_with_those_of_the_scene(robot):
    with pytest.raises(UnknownName, match="body 'cup' is not known") as caught:
        robot.roll_out(at_home(body_poses=(put("cup"),)))
    assert "red_cube" in caught.value.hint


def test_a_body_without_a_free_joint_is_refused_with_those_that_have_one(robot):
    hand = robot.roll_out(at_home()).names.bodies[2]
    with pytest.raises(SceneStateError, match="has no free joint") as caught:
        robot.roll_out(at_home(body_poses=(put(hand),)))
    assert caught.value.hint.startswith("bodies with a free joint: red_cube, ")


@pytest.mark.parametrize(
    ("pose", "message"),
    [
        (
            put(position=np.array([0.5, np.nan, 0.1])),
            "position of the body 'red_cube' holds numbers that are not finite",
        ),
        (put(quaternion=np.array([np.inf, 0, 0, 0])), "quaternion of the body 'red_cube' holds numbers that are not"),
        (put(quaternion=np.zeros(4)), "quaternion of the body 'red_cube' has length zero"),
    ],
)
def test_a_pose_that_is_not_one_is_refused(robot, pose, message):
    with pytest.raises(SceneStateError, match=message):
        robot.roll_out(at_home(body_poses=(pose,)))
