"""What an arm's own sensors measure: its joints and its gripper."""

import mujoco
import numpy as np
from jaxtyping import Float

from vla_server_base.scenes.messages import ControlSettings
from vla_server_base.scenes.worker.arms.arm import Arm
from vla_server_base.scenes.worker.arms.gripper_control import GripperControl

GRIPPER = "gripper"


class Proprioception:
    """The sensors of an arm: joint positions [rad or m] in its robot's order, then how far its gripper is open.

    The opening, 0 closed and 1 open, is the fingers' own, whatever their controls ask for; where no position servo
    drives them, it is what the controls hold. An arm without a gripper has joints only. `names` says which number is
    what.

    Raises:
        UnknownName, SceneError: the description of the gripper does not fit the scene.
    """

    def __init__(self, arm: Arm):
        self._arm = arm
        self._gripper = GripperControl(arm, ControlSettings())
        self._has_gripper = bool(arm.robot.gripper and arm.robot.gripper.actuators)
        self.names = (*arm.robot.joints, *([GRIPPER] if self._has_gripper else []))

    def measure(self, data: mujoco.MjData) -> Float[np.ndarray, " numbers"]:
        """Return what they measure in a state for which all that belongs to it is computed."""
        opening = [self._gripper.opening(data, from_controls=False)] if self._has_gripper else []
        return np.array([*self._arm.joints(data), *opening])
