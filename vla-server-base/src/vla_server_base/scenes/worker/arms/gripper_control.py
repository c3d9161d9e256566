"""How far a gripper is open, from 0 closed to 1 open: read from a scene, set by an action, written to the controls."""

import mujoco
import numpy as np

from vla_server_base.errors import SceneError, UnknownName
from vla_server_base.scenes.messages import ControlSettings, ControlState
from vla_server_base.scenes.robots import NO_GRIPPER
from vla_server_base.scenes.worker.arms.arm import Arm
from vla_server_base.scenes.worker.scene_names import ACTUATOR, has, index, names, some

STICKY_STEPS = 15
"""How many steps a sticky gripper's opening or closing lasts, as for the Google robot in SimplerEnv."""


class GripperControl:
    """The actuators of an arm's gripper; without a gripper, the opening is only kept and nothing moves.

    Raises:
        UnknownName: `actuator`: the scene has no actuator of that name.
        SceneError: the description gives an actuator no two different values.
    """

    def __init__(self, arm: Arm, settings: ControlSettings):
        gripper = arm.robot.gripper or NO_GRIPPER
        for name in gripper.actuators:
            if not has(arm.model, ACTUATOR, name):
                raise UnknownName("actuator", name, some(names(arm.model, ACTUATOR)))
        if not len(gripper.actuators) == len(gripper.open) == len(gripper.closed):
            raise SceneError(
                f"the robot's gripper has {len(gripper.actuators)} actuators, {len(gripper.open)} open and"
                f" {len(gripper.closed)} closed values",
                hint="send one open and one closed value for each actuator",
            )
        self._model, self._settings = arm.model, settings
        self._ids = np.array([index(arm.model, ACTUATOR, name) for name in gripper.actuators], int)
        self._open, self._closed = np.array(gripper.open, float), np.array(gripper.closed, float)
        if (self._open == self._closed).any():
            raise SceneError(
                "the robot's gripper has the same value for open and for closed",
                hint="send the control values at which the actuator has opened and closed the fingers",
            )

    def opening(self, data: mujoco.MjData, *, from_controls: bool) -> float:
        """Return the opening that the controls hold, or the one that the fingers have; 1 without a gripper."""
        if not len(self._ids):
            return 1.0
        controls = data.ctrl[self._ids]
        gain, bias = self._model.actuator_gainprm[self._ids, 0], self._model.actuator_biasprm[self._ids]
        if not from_controls and (bias[:, 1] * gain != 0).all():
            # The control that would hold a servo where it stands.
            controls = -(bias[:, 0] + bias[:, 1] * data.actuator_length[self._ids]) / gain
        fractions = (controls - self._closed) / (self._open - self._closed)
        return float(np.clip(fractions, 0, 1).mean())

    def after(self, state: ControlState, value: float) -> tuple[float, float, int]:
        """Return the opening after an action's number, that number, and for how many more steps it holds."""
        threshold = self._settings.gripper_threshold
        if self._settings.gripper == "absolute":
            return float(value > threshold), value, 0
        if state.gripper_hold > 0:
            return state.gripper_opening, value, state.gripper_hold - 1
        change = 0.0 if state.gripper_value is None else value - state.gripper_value
        if abs(change) > threshold:
            return float(change > 0), value, STICKY_STEPS - 1
        return state.gripper_opening, value, 0

    def write(self, data: mujoco.MjData, opening: float) -> None:
        """Write the gripper's controls."""
        data.ctrl[self._ids] = self._closed + opening * (self._open - self._closed)
