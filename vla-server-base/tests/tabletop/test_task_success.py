"""The success predicates of tasks, on measures that are written down by hand."""

import pytest

from vla_server_base.tabletop.tables import TABLES
from vla_server_base.tabletop.tasks import LEFT, PUSHED_M, RIGHT, TASKS, tasks_beginning

TABLE = TABLES["panda"]


def holds(task: str, now: list[float], start: list[float]) -> bool:
    predicates = TASKS[task].success(TABLE)
    return all(predicate.holds(*values) for predicate, *values in zip(predicates, now, start, strict=True))


def measures(task: str) -> list[str]:
    return [predicate.measure.kind for predicate in TASKS[task].success(TABLE)]


@pytest.mark.parametrize(("height", "is_done"), [(0.074, False), (0.076, True)])
def test_picking_up_needs_five_centimetres_above_the_start(height, is_done):
    assert measures("pick_up_red_cube") == ["height"]
    assert holds("pick_up_red_cube", [height], [0.025]) is is_done
    assert not holds("pick_up_red_cube", [height], [0.03])


@pytest.mark.parametrize(
    ("along", "height", "is_done"),
    [(PUSHED_M + 0.001, 0.025, True), (PUSHED_M - 0.001, 0.025, False), (PUSHED_M + 0.001, 0.04, False)],
)
def test_a_push_needs_its_distance_on_the_table(along, height, is_done):
    assert measures("push_left_blue_cube") == ["along", "height"]
    assert holds("push_left_blue_cube", [along, height], [0.0, 0.025]) is is_done


@pytest.mark.parametrize(("verb", "direction"), [("push_left", LEFT), ("push_right", RIGHT)])
def test_left_is_the_positive_y_axis(verb, direction):
    predicate = TASKS[f"{verb}_red_cube"].success(TABLE)[0]
    assert predicate.measure.direction == direction


PUT_ON = {"above": 0.05, "horizontal_distance": 0.01, "contact": 0.5, "joint": 0.04, "hand": 0.2}


@pytest.mark.parametrize(
    ("changes", "is_done"),
    [
        ({}, True),
        ({"above": 0.06}, False),
        ({"horizontal_distance": 0.021}, False),
        ({"contact": 0.0}, False),
        ({"joint": 0.03}, False),
        ({"hand": 0.13}, False),
    ],
)
def test_put_on_needs_the_object_on_the_cube_touching_it_and_released(changes, is_done):
    task = "put_on_red_cube_blue_cube"
    assert measures(task) == ["above", "horizontal_distance", "contact", "joint", "above"]
    now = list({**PUT_ON, **changes}.values())
    assert holds(task, now, [0.0] * 5) is is_done


NEXT_TO = {"distance": 0.09, "height": 0.025, "x": 0.0, "y": 0.0, "joint": 0.04, "hand": 0.2}


@pytest.mark.parametrize(
    ("changes", "is_done"),
    [
        ({}, True),
        ({"distance": 0.101}, False),
        ({"height": 0.031}, False),
        ({"x": 0.031}, False),
        ({"y": -0.031}, False),
        ({"joint": 0.03}, False),
        ({"hand": 0.13}, False),
    ],
)
def test_put_next_to_needs_the_object_on_the_table_the_target_unmoved_and_a_release(changes, is_done):
    task = "put_next_to_red_cube_green_sphere"
    assert measures(task) == ["horizontal_distance", "height", "along", "along", "joint", "above"]
    now = list({**NEXT_TO, **changes}.values())
    assert holds(task, now, [0.0] * 6) is is_done


def test_no_task_puts_anything_on_the_sphere():
    assert not [name for name, task in TASKS.items() if task.verb == "put_on" and task.target == "green_sphere"]


def test_tasks_are_selected_by_the_beginnings_of_their_names():
    assert len(tasks_beginning([])) == len(TASKS) == 19
    assert [task.name for task in tasks_beginning(["push_right_b", "pick_up_red"])] == [
        "pick_up_red_cube",
        "push_right_blue_cube",
    ]
