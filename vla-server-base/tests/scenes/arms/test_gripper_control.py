"""A gripper's opening is read from the controls or the fingers, and written to every actuator."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest

from vla_server_base.errors import SceneError, UnknownName
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import ControlSettings, ControlState
from vla_server_base.scenes.robots import BUNDLED_PANDA, Gripper
from vla_server_base.scenes.worker.arms.arm import Arm
from vla_server_base.scenes.worker.arms.gripper_control import STICKY_STEPS, GripperControl


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(bundled_scene("panda", "tabletop"))


@pytest.fixture
def data(model) -> mujoco.MjData:
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key("home").id)
    mujoco.mj_forward(model, data)
    return data


def control_of(model, hand: Gripper | None = BUNDLED_PANDA.gripper, **settings) -> GripperControl:
    return GripperControl(Arm(model, replace(BUNDLED_PANDA, gripper=hand)), ControlSettings(**settings))


@pytest.mark.parametrize("opening", [0.0, 0.25, 1.0])
def test_what_is_written_is_read_from_the_controls(model, data, opening):
    control = control_of(model)
    control.write(data, opening)
    assert control.opening(data, from_controls=True) == pytest.approx(opening)
    assert data.actuator("gripper").ctrl[0] == pytest.approx(0.04 * opening)


def test_the_fingers_opening_is_read_where_the_controls_do_not_count(model, data):
    control = control_of(model)
    control.write(data, 0.0)
    assert control.opening(data, from_controls=False) == pytest.approx(1.0, abs=0.01), "the fingers are open at home"


def test_an_opening_beyond_the_range_is_cut(model, data):
    data.actuator("gripper").ctrl[0] = 5.0
    assert control_of(model).opening(data, from_controls=True) == 1.0


def test_without_a_gripper_nothing_is_written_and_it_counts_as_open(model, data):
    before = data.ctrl.copy()
    control = control_of(model, None)
    control.write(data, 0.0)
    np.testing.assert_array_equal(data.ctrl, before)
    assert control.opening(data, from_controls=True) == 1.0


@pytest.mark.parametrize(
    ("gripper", "error", "message"),
    [
        (Gripper(actuators=("hand",), open=(1.0,), closed=(0.0,)), UnknownName, "actuator 'hand' is not known"),
        (
            Gripper(actuators=("gripper",), open=(1.0, 2.0), closed=(0.0,)),
            SceneError,
            "1 actuators, 2 open and 1 closed",
        ),
        (Gripper(actuators=("gripper",), open=(1.0,), closed=(1.0,)), SceneError, "the same value"),
    ],
)
def test_a_gripper_that_does_not_fit_is_refused_with_a_hint(model, gripper, error, message):
    with pytest.raises(error, match=message) as caught:
        control_of(model, gripper)
    assert caught.value.hint


def state(opening: float = 1.0, value: float | None = None, hold: int = 0) -> ControlState:
    return ControlState(joint_targets=np.zeros(7), gripper_opening=opening, gripper_value=value, gripper_hold=hold)


@pytest.mark.parametrize(("value", "opening"), [(0.0, 0.0), (0.5, 0.0), (0.51, 1.0), (1.0, 1.0)])
def test_an_absolute_number_opens_above_the_threshold(model, value, opening):
    assert control_of(model).after(state(opening=0.3), value) == (opening, value, 0)


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        (state(), 0.2, (1.0, 0.2, 0)),
        (state(value=1.0), 0.2, (0.0, 0.2, STICKY_STEPS - 1)),
        (state(opening=0.0, value=0.0), 0.9, (1.0, 0.9, STICKY_STEPS - 1)),
        (state(value=1.0), 0.6, (1.0, 0.6, 0)),
        (state(opening=0.0, value=0.2, hold=3), 1.0, (0.0, 1.0, 2)),
    ],
)
def test_a_sticky_gripper_acts_on_changes_and_not_while_it_moves(model, before, value, after):
    assert control_of(model, gripper="sticky").after(before, value) == after
