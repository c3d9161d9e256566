"""A simulation is gone on with exactly, and what it does is measured and kept in bounds."""

import mujoco
import numpy as np
import pytest

from vla_server_base.errors import SceneRefused, SceneUnstable, UnknownName
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import (
    Bounds,
    ControlSettings,
    Measure,
    RolloutRequest,
    SceneState,
)
from vla_server_base.scenes.worker.simulation.rollout import Simulation

DOWN = np.array([0, 0, -0.05, 0, 0, 0, 0.0])
FORWARD = np.array([0.03, 0.01, 0, 0, 0, 0.1, 1.0])
PENDULUM = """<mujoco><option timestep="{timestep}"/><worldbody><body name="bob" pos="0 0 1">
<joint name="hinge" axis="0 1 0"/><geom pos="0.3 0 0" size="0.05" mass="{mass}"/></body></worldbody></mujoco>"""


def simulation(xml: str) -> Simulation:
    model = mujoco.MjModel.from_xml_string(xml)
    return Simulation(model, mujoco.MjData(model))


@pytest.fixture(params=["panda", "widowx"])
def robot(request):
    return simulation(bundled_scene(request.param, "tabletop"))


def at_home(actions=(), **rest) -> RolloutRequest:
    return RolloutRequest(start=SceneState(), actions=np.reshape(actions, (-1, 7)).astype(float), **rest)


def test_a_chunk_at_once_is_its_actions_one_by_one_bit_for_bit(robot):
    chunk = np.stack([FORWARD, DOWN, -FORWARD, DOWN])
    at_once = robot.roll_out(at_home(chunk))
    reply = robot.roll_out(at_home())
    for action in chunk:
        reply = robot.roll_out(RolloutRequest(start=reply.end, actions=action[None]))
    np.testing.assert_array_equal(reply.end.physics, at_once.end.physics)
    np.testing.assert_array_equal(reply.steps[0].state.qpos, at_once.steps[3].state.qpos)


def test_what_happened_in_between_does_not_matter(robot):
    start = robot.roll_out(at_home([FORWARD]))
    first = robot.roll_out(RolloutRequest(start=start.end, actions=DOWN[None]))
    robot.roll_out(at_home([DOWN, DOWN, DOWN]))
    again = robot.roll_out(RolloutRequest(start=start.end, actions=DOWN[None]))
    np.testing.assert_array_equal(first.end.physics, again.end.physics)


@pytest.mark.parametrize("rate_hz", [5.0, 10.0])
def test_each_action_takes_one_control_period_of_simulated_time(robot, rate_hz):
    reply = robot.roll_out(at_home([FORWARD] * 4, control=ControlSettings(rate_hz=rate_hz)))
    times = [step.state.time_s for step in reply.steps]
    np.testing.assert_allclose(times, np.arange(1, 5) / rate_hz, rtol=0, atol=1e-9)


def test_while_it_holds_time_passes_and_the_arm_goes_where_it_was_told(robot):
    moving = robot.roll_out(at_home([FORWARD]))
    held = robot.roll_out(RolloutRequest(start=moving.end, hold_s=1.0))
    assert held.state.time_s == pytest.approx(1.2)
    told = moving.end.control.joint_targets
    np.testing.assert_allclose(held.state.qpos[: len(told)], told, atol=5e-3)


def test_actions_add_up(robot):
    start = robot.roll_out(at_home()).pose.position
    reply = robot.roll_out(at_home([[0.01, 0.02, -0.005, 0, 0, 0, 1]] * 4))
    held = robot.roll_out(RolloutRequest(start=reply.end, hold_s=1.0))
    np.testing.assert_allclose(held.pose.position - start, [0.04, 0.08, -0.02], atol=3e-3)


def test_pressing_on_the_table_is_a_contact_and_beyond_its_bound_a_violation(robot):
    steps = robot.roll_out(at_home([DOWN] * 12, bounds=Bounds(max_contact_force_n=2.0))).steps
    touched = {body for step in steps for contact in step.contacts for body in contact.bodies}
    assert "world" in touched, "the table is the world's"
    hard = [found for step in steps for found in step.violations if found.kind == "contact"]
    assert hard
    assert all(found.value > found.limit == 2.0 for found in hard)


def test_bounds_that_are_passed_are_named(robot):
    bounds = Bounds(workspace=np.array([[0, -1, 0], [1, 1, 0.1]], float), max_joint_speed=0.01)
    (step,) = robot.roll_out(at_home([FORWARD], bounds=bounds)).steps
    found = {violation.kind: violation for violation in step.violations}
    assert (found["workspace"].what, found["workspace"].limit) == ("z", 0.1)
    assert found["workspace"].value > 0.1
    assert found["velocity"].value > 0.01


def test_clamped_motion_stays_in_the_workspace_and_says_how_much_was_cut(robot):
    start = robot.roll_out(at_home()).pose.position
    workspace = np.stack([start - np.array([1, 1, 0.04]), start + np.array([0.03, 1, 1])])
    request = at_home([[0.02, 0, -0.03, 0, 0, 0, 1]] * 6, bounds=Bounds(workspace=workspace), clamp=True)
    reply = robot.roll_out(request)
    held = robot.roll_out(RolloutRequest(start=reply.end, hold_s=1.0))
    assert not any(step.violations for step in reply.steps)
    assert reply.steps[0].scale == 1.0
    assert reply.steps[-1].scale == 0.0
    assert (held.pose.position > workspace[0] - 2e-3).all()
    assert (held.pose.position < workspace[1] + 2e-3).all()


def test_a_pose_beyond_a_joints_limit_is_a_joint_violation(robot):
    steps = robot.roll_out(at_home([[0, 0, 0, 0, 0, 0.25, 1]] * 20)).steps
    assert any(found.kind == "joint" for step in steps for found in step.violations)


def test_measures_are_taken_at_the_start_and_after_each_step(robot):
    measures = (
        Measure(kind="height", names=("red_cube",)),
        Measure(kind="distance", names=("red_cube", "blue_cube")),
        Measure(kind="contact", names=("red_cube", "world")),
        Measure(kind="contact", names=("red_cube", "blue_cube")),
    )
    reply = robot.roll_out(at_home([FORWARD], measures=measures))
    height, distance, on_table, on_blue = reply.steps[0].measures
    assert height == pytest.approx(reply.measures[0], abs=1e-3)
    assert 0.05 < distance < 0.5
    assert on_table == pytest.approx({0.025: 0.05, 0.0175: 0.025}[round(height, 4)] * 9.81, rel=0.05), "its weight"
    assert on_blue == 0.0


def test_places_are_measured_along_directions_and_between_bodies(robot):
    both = ("red_cube", "blue_cube")
    diagonal = (0.6, 0.0, 0.8)
    measures = (
        *(Measure(kind="along", names=(name,), direction=diagonal) for name in both),
        *(Measure(kind=kind, names=both) for kind in ("above", "horizontal_distance")),
    )
    start = robot.roll_out(at_home()).state.qpos
    red, blue = start[-21:-18], start[-14:-11] + np.array([0, 0, 0.1])
    start[-14:-11] = blue
    reply = robot.roll_out(RolloutRequest(start=SceneState(qpos=start), measures=measures))
    expected = [red @ diagonal, blue @ diagonal, -0.1, np.hypot(*(red - blue)[:2])]
    np.testing.assert_allclose(reply.measures, expected, atol=1e-9)


def test_a_joints_position_is_a_measure_and_needs_no_arm():
    pendulum = simulation(PENDULUM.format(timestep=0.002, mass=1))
    request = RolloutRequest(
        start=SceneState(), control=None, hold_s=0.1, measures=(Measure(kind="joint", names=("hinge",)),)
    )
    reply = pendulum.roll_out(request)
    assert reply.measures == (reply.state.qpos[0],)
    assert reply.state.qpos[0] == pytest.approx(0.5 * 9.81 / 0.3 * 0.1**2, rel=0.1)


@pytest.mark.parametrize(
    ("kind", "names"), [("height", ("cup",)), ("contact", ("red_cube", "cup")), ("joint", ("cup",))]
)
def test_an_unknown_body_or_joint_is_refused_with_those_there_are(robot, kind, names):
    with pytest.raises(UnknownName) as caught:
        robot.roll_out(at_home(measures=(Measure(kind=kind, names=names),)))
    assert "red_cube" in caught.value.hint


def test_a_simulation_that_blows_up_is_said_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings down where it is
    xml = PENDULUM.format(timestep=0.002, mass=1).replace("<joint ", '<joint stiffness="1e12" ref="1" ')
    unstable = simulation(xml)
    request = RolloutRequest(start=SceneState(qpos=np.array([0.5])), control=None, hold_s=1.0)
    with pytest.raises(SceneUnstable):
        unstable.roll_out(request)


def test_more_physics_than_a_request_gets_is_refused():
    slow = simulation(PENDULUM.format(timestep=1e-6, mass=1))
    with pytest.raises(SceneRefused, match="200000 steps"):
        slow.roll_out(RolloutRequest(start=SceneState(), control=None, hold_s=0.2))
