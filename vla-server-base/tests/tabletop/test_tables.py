"""The state of a table, read from a simulation's numbers; placements that are possible, and those that are not."""

import numpy as np
import pytest

from vla_server_base.errors import UnknownName
from vla_server_base.scenes.messages import Pose, SimulationState
from vla_server_base.tabletop.demonstration import environment_state
from vla_server_base.tabletop.placements import have_clearance, is_possible
from vla_server_base.tabletop.tables import NUM_FREE, OBJECTS, TABLES, read_state, rotation, table_of
from vla_server_base.tabletop.tasks import TASKS

PANDA = TABLES["panda"]
FREE = {name: np.array([0.4 + 0.1 * number, -0.1, 0.025]) for number, name in enumerate(OBJECTS)}


def about_z(angle: float) -> np.ndarray:
    return np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)])


def simulation_state(opening: float = 1.0, yaw: float = 0.0) -> SimulationState:
    qpos = np.zeros(PANDA.num_joints + 2 + NUM_FREE * len(OBJECTS))
    qpos[: PANDA.num_joints] = np.arange(PANDA.num_joints) / 10
    qpos[PANDA.num_joints : PANDA.num_joints + 2] = opening * PANDA.finger_open
    for row, name in zip(qpos[PANDA.num_joints + 2 :].reshape(-1, NUM_FREE), OBJECTS, strict=True):
        row[:3], row[3:] = FREE[name], about_z(yaw)
    return SimulationState(time_s=0.0, qpos=qpos, qvel=np.zeros(0), ctrl=np.zeros(0))


def table_state(**changes: float):
    pose = Pose(position=np.array([0.5, 0.0, 0.3]), quaternion=np.array([0.0, 1.0, 0.0, 0.0]))
    return read_state(PANDA, simulation_state(**changes), pose)


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.2, np.pi])
def test_a_quaternion_becomes_its_rotation(angle):
    cosine, sine = np.cos(angle), np.sin(angle)
    np.testing.assert_allclose(rotation(about_z(angle)), [[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], atol=1e-12)


def test_objects_and_gripper_are_read_from_the_state():
    state = table_state()
    for name in OBJECTS:
        np.testing.assert_array_equal(state.objects[name].position, FREE[name])
    np.testing.assert_allclose(state.axes, np.diag([1, -1, -1]), atol=1e-12)


@pytest.mark.parametrize("opening", [0.0, 0.25, 1.0])
def test_the_gripper_opening_follows_the_fingers(opening):
    assert table_state(opening=opening).gripper_opening == pytest.approx(opening)


@pytest.mark.parametrize("yaw", [0.0, 0.2, -0.7])
def test_an_objects_yaw_is_defined_up_to_quarter_turns(yaw):
    read = table_state(yaw=yaw).objects["red_cube"].yaw
    assert np.sin(2 * (read - yaw)) == pytest.approx(0, abs=1e-9)


def test_an_unknown_robot_is_refused_with_the_known_ones():
    with pytest.raises(UnknownName, match="r2d2") as error:
        table_of("r2d2")
    assert all(robot in error.value.hint for robot in TABLES)


def test_what_a_policy_has_to_see_is_relative_to_the_gripper():
    state = table_state()
    numbers = environment_state(TASKS["put_on_blue_cube_red_cube"], state)
    vectors = {name: FREE[name] - state.position for name in OBJECTS}
    expected = [vectors["blue_cube"], vectors["red_cube"], *vectors.values()]
    np.testing.assert_allclose(numbers[:15].reshape(5, 3), expected, atol=1e-6)
    assert numbers[15] == 1


def test_without_a_target_the_object_stands_for_it():
    numbers = environment_state(TASKS["pick_up_green_sphere"], table_state())
    np.testing.assert_array_equal(numbers[:3], numbers[3:6])


def places(red, blue, green) -> dict[str, np.ndarray]:
    return dict(zip(OBJECTS, map(np.array, (red, blue, green)), strict=True))


@pytest.mark.parametrize(("distance", "expected"), [(0.109, False), (0.111, True)])
def test_clearance_is_the_smallest_distance(distance, expected):
    assert have_clearance(places([0.4, 0.0], [0.4, distance], [0.6, 0.0]), PANDA) is expected


@pytest.mark.parametrize(
    ("task", "layout", "expected"),
    [
        ("pick_up_red_cube", ([0.38, 0.26], [0.5, 0.0], [0.6, 0.0]), True),
        ("push_left_red_cube", ([0.5, -0.1], [0.62, 0.0], [0.38, 0.0]), True),
        ("push_left_red_cube", ([0.5, 0.2], [0.62, 0.0], [0.38, 0.0]), False),
        ("push_left_red_cube", ([0.5, -0.1], [0.5, 0.05], [0.38, 0.0]), False),
        ("push_right_red_cube", ([0.5, -0.1], [0.62, 0.0], [0.38, 0.0]), True),
        ("push_right_red_cube", ([0.5, -0.2], [0.62, 0.0], [0.38, 0.0]), False),
        ("put_on_red_cube_blue_cube", ([0.38, 0.0], [0.5, 0.2], [0.6, 0.0]), True),
        ("put_on_red_cube_blue_cube", ([0.38, 0.0], [0.61, 0.2], [0.5, 0.0]), False),
        ("put_next_to_red_cube_green_sphere", ([0.38, 0.0], [0.5, 0.2], [0.5, 0.25]), False),
    ],
)
def test_a_push_needs_space_and_a_target_must_not_lie_at_the_edge(task, layout, expected):
    assert is_possible(places(*layout), PANDA, TASKS[task]) is expected
