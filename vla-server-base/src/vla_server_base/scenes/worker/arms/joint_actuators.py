"""Which controls move an arm's joints to their targets."""

import mujoco
import numpy as np
from jaxtyping import Float

from vla_server_base.errors import SceneError
from vla_server_base.scenes.worker.arms.arm import Arm
from vla_server_base.scenes.worker.scene_names import ACTUATOR, listed, names

JOINT_TRANSMISSIONS = (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT)
# Without dynamics, or with a filter that passes the control on unchanged in the end.
DYNAMICS = (mujoco.mjtDyn.mjDYN_NONE, mujoco.mjtDyn.mjDYN_FILTER, mujoco.mjtDyn.mjDYN_FILTEREXACT)
BIASES = (mujoco.mjtBias.mjBIAS_NONE, mujoco.mjtBias.mjBIAS_AFFINE)

TORQUE_BANDWIDTH = 25.0
"""Of the critically damped motion that computed torques make of an error [rad/s]."""

Joints = Float[np.ndarray, " joints"]


class JointActuators:
    """One actuator for each joint of an arm, found by what it drives, not by its name.

    An actuator pushes with gain * ctrl + bias0 + bias1 * length + bias2 * velocity. With bias1 < 0 it is a position
    servo, and its control is the target. All others (torque motors, velocity servos) get the force that the
    scene's dynamics require (computed torque), at each physics step.

    Raises:
        SceneError: a joint has no actuator, or none of these kinds.
    """

    def __init__(self, arm: Arm):
        self._model, self._arm = arm.model, arm
        self._ids = np.array([_actuator(arm.model, int(joint)) for joint in arm.joint_ids])
        self._gear = arm.model.actuator_gear[self._ids, 0]
        self._gain = arm.model.actuator_gainprm[self._ids, 0]
        self._bias = arm.model.actuator_biasprm[self._ids, :3].T
        self.are_servos = self._bias[1] < 0
        self._range = np.where(
            arm.model.actuator_ctrllimited[self._ids, None], arm.model.actuator_ctrlrange[self._ids], [-np.inf, np.inf]
        ).T

    def reach(self) -> Float[np.ndarray, "joints 2"]:
        """Return the joint positions that the controls' ranges allow."""
        ends = np.sort(np.stack([self._position(end) for end in self._range]), axis=0)
        return np.where(self.are_servos, ends, [[-np.inf], [np.inf]]).T

    def targets(self, data: mujoco.MjData) -> Joints:
        """Return the targets of the servos; for other joints, their positions."""
        return np.where(self.are_servos, self._position(data.ctrl[self._ids]), self._arm.joints(data))

    def write(self, data: mujoco.MjData, targets: Joints, speeds: Joints) -> None:
        """Write the controls for one physics step towards `targets`, which move at `speeds`."""
        length = self._gear * targets
        control = -(self._bias[0] + self._bias[1] * length) / self._gain
        if not self.are_servos.all():
            lengths = data.actuator_length[self._ids], data.actuator_velocity[self._ids]
            bias = self._bias[0] + self._bias[1] * lengths[0] + self._bias[2] * lengths[1]
            control = np.where(self.are_servos, control, (self._force(data, targets, speeds) - bias) / self._gain)
        data.ctrl[self._ids] = np.clip(control, *self._range)

    def _position(self, control: Joints) -> Joints:
        """Return the positions at which servos come to rest."""
        with np.errstate(divide="ignore", invalid="ignore"):  # where an actuator is not a servo
            return -(self._gain * control + self._bias[0]) / (self._bias[1] * self._gear)

    def _force(self, data: mujoco.MjData, targets: Joints, speeds: Joints) -> Joints:
        """Return the actuators' forces for a critically damped approach, by the inverse dynamics of the arm."""
        behind = targets - self._arm.joints(data), speeds - self._arm.joint_speeds(data)
        acceleration, inertial = np.zeros(self._model.nv), np.zeros(self._model.nv)
        acceleration[self._arm.dofs] = TORQUE_BANDWIDTH**2 * behind[0] + 2 * TORQUE_BANDWIDTH * behind[1]
        mujoco.mj_mulM(self._model, data, inertial, acceleration)
        return (inertial + data.qfrc_bias - data.qfrc_passive)[self._arm.dofs] / self._gear


def _actuator(model: mujoco.MjModel, joint: int) -> int:
    """Return the actuator that steers a joint: its servo, or its only other one."""
    driving = [
        actuator
        for actuator in range(model.nu)
        if int(model.actuator_trntype[actuator]) in JOINT_TRANSMISSIONS and model.actuator_trnid[actuator, 0] == joint
    ]
    name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_JOINT, joint)[:80]
    if not driving:
        raise SceneError(f"joint '{name}' has no actuator", hint="add one to <actuator>, such as <position joint=...>")
    steerable = [actuator for actuator in driving if _is_steerable(model, actuator)]
    servos = [actuator for actuator in steerable if model.actuator_biasprm[actuator, 1] < 0]
    chosen = servos or steerable
    if len(chosen) != 1:
        actuators = listed(names(model, ACTUATOR)[actuator] for actuator in driving)
        raise SceneError(
            f"joint '{name}' has no single actuator that can be given a target: {actuators}",
            hint="use one <position> or one <motor> for each joint of the arm",
        )
    return chosen[0]


def _is_steerable(model: mujoco.MjModel, actuator: int) -> bool:
    return bool(
        model.actuator_gaintype[actuator] == mujoco.mjtGain.mjGAIN_FIXED
        and int(model.actuator_biastype[actuator]) in BIASES
        and int(model.actuator_dyntype[actuator]) in DYNAMICS
        and model.actuator_gainprm[actuator, 0] * model.actuator_gear[actuator, 0] != 0
    )
