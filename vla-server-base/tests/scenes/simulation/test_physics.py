"""A simulation returns to a state to the bit, and says when it blew up."""

import mujoco
import numpy as np
import pytest

from vla_server_base.errors import SceneStateError, SceneUnstable, UnknownName
from vla_server_base.scenes.messages import SceneState, Snapshot
from vla_server_base.scenes.worker.simulation.physics import Physics

BALL = """<mujoco><option timestep="{timestep}"/><worldbody><geom type="plane" size="1 1 1"/>
<body name="ball" pos="0 0 {height}"><freejoint name="free"/><geom size="0.1" mass="1"/></body></worldbody>
<keyframe><key name="high" qpos="0 0 2 1 0 0 0"/></keyframe></mujoco>"""


def physics(timestep: float = 0.002, height: float = 0.3) -> Physics:
    model = mujoco.MjModel.from_xml_string(BALL.format(timestep=timestep, height=height))
    return Physics(model, mujoco.MjData(model))


def stepped(simulation: Physics, count: int) -> np.ndarray:
    for _ in range(count):
        simulation.step()
    simulation.settle()
    return simulation.full_state()


def test_what_follows_a_state_is_the_same_after_it_is_restored():
    simulation = physics()
    simulation.begin(SceneState())
    middle = stepped(simulation, 100)
    end = stepped(simulation, 100)
    simulation.restore(middle)
    np.testing.assert_array_equal(simulation.full_state(), middle)
    np.testing.assert_array_equal(stepped(simulation, 100), end)


def test_another_simulation_of_the_scene_goes_on_from_a_snapshot():
    first, second = physics(), physics()
    first.begin(SceneState())
    middle = stepped(first, 150)
    second.begin(SceneState(keyframe="high"))
    second.begin(Snapshot(physics=middle, control=None))
    np.testing.assert_array_equal(stepped(first, 50), stepped(second, 50))


def test_a_state_names_positions_velocities_and_time():
    simulation = physics()
    simulation.begin(SceneState(keyframe="high"))
    stepped(simulation, simulation.num_steps(0.1))
    state = simulation.state()
    assert state.time_s == pytest.approx(0.1)
    assert state.qvel[2] == pytest.approx(-0.981, abs=1e-6)
    assert state.qpos[2] == pytest.approx(2 - 0.981 * 0.1 / 2, abs=2e-3)


@pytest.mark.parametrize(("seconds", "count"), [(0.0, 0), (0.0009, 0), (0.0011, 1), (0.2, 100)])
def test_a_duration_takes_the_nearest_number_of_steps(seconds, count):
    assert physics().num_steps(seconds) == count


def test_the_data_belong_to_the_state_after_it_has_settled():
    simulation = physics()
    simulation.begin(SceneState())
    stepped(simulation, 10)
    np.testing.assert_array_equal(simulation.data.body("ball").xpos, simulation.data.qpos[:3])


def test_a_simulation_that_blows_up_is_an_error_with_a_hint():
    simulation = physics()
    simulation.begin(SceneState(qvel=np.array([0, 0, 1e11, 0, 0, 0])))
    with pytest.raises(SceneUnstable) as caught:
        stepped(simulation, 5)
    assert "smaller time step" in caught.value.hint


def test_a_start_that_does_not_fit_the_scene_is_refused():
    with pytest.raises(SceneStateError, match="qpos: expected 7 numbers, got 3"):
        physics().begin(SceneState(qpos=np.zeros(3)))
    with pytest.raises(UnknownName):
        physics().begin(SceneState(keyframe="low"))
