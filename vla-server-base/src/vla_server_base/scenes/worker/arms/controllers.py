"""Turns a policy's actions into controls of a simulated arm."""

import mujoco
import numpy as np
from jaxtyping import Float

from vla_server_base.scenes.messages import ControlSettings, ControlState, Violation
from vla_server_base.scenes.worker.arms.arm import Arm
from vla_server_base.scenes.worker.arms.gripper_control import GripperControl
from vla_server_base.scenes.worker.arms.inverse_kinematics import Solution, solve, weighted
from vla_server_base.scenes.worker.arms.joint_actuators import JointActuators
from vla_server_base.scenes.worker.arms.rotations import (
    Quaternion,
    Vector,
    product,
    quaternion_from_rpy,
    quaternion_from_vector,
    rotate,
    rotation_between,
    shortened,
)

MAX_LEAD_M, MAX_LEAD_RAD = 0.10, 0.5
"""How far the target pose may be from the arm, or two of the longest steps if that is more.

Less than an arm of soft servos sags would drag it down; much more, and an arm that was held up leaps when let go.
"""

MAX_JOINT_STEP = 0.6
"""How far a joint's target may move in a control step [rad or m]; its velocity limit, where known, may allow less."""

JOINT_STEP_PER_METRE = 40.0
"""How far a joint's target may move for each metre (or 4 rad) that the end effector is to move.

Near a singular pose a millimetre could ask for a half turn; here the end effector then falls behind instead.
"""

HOME_STEP = 0.05
"""How far a control step may pull a joint towards its home pose where the target pose leaves it free [rad or m]."""

IDENTITY = np.array([1.0, 0.0, 0.0, 0.0])


class Controller:
    """Drives an arm by actions of 7 numbers: dx, dy, dz [m], droll, dpitch, dyaw [rad], gripper (1 open, 0 closed).

    A delta starts from the pose of the last targets, not from the arm's own pose, so that sag and lag do not add up.
    """

    def __init__(self, arm: Arm, settings: ControlSettings):
        self._arm, self._settings = arm, settings
        self._actuators = JointActuators(arm)
        self._gripper = GripperControl(arm, settings)
        reach = self._actuators.reach()
        self._limits = np.stack(
            [np.maximum(arm.limits[:, 0], reach[:, 0]), np.minimum(arm.limits[:, 1], reach[:, 1])], axis=1
        )
        speeds = np.inf if arm.velocity_limits is None else arm.velocity_limits
        self._max_step = np.minimum(MAX_JOINT_STEP, np.full(len(arm.limits), speeds) / settings.rate_hz)
        self._max_lead_m = max(MAX_LEAD_M, 2 * settings.max_translation_m)
        self._max_lead_rad = max(MAX_LEAD_RAD, 2 * settings.max_rotation_rad)

    def start(self, data: mujoco.MjData) -> ControlState:
        """Return the targets that the controls of `data` hold, or else the arm's present position.

        Controls that are all zero, or whose targets are far from the arm, are not targets for it.
        """
        targets = self._actuators.targets(data)
        from_controls = bool(data.ctrl.any()) and self._is_near(data, targets)
        joints = targets if from_controls else self._arm.joints(data)
        return ControlState(
            joint_targets=np.clip(joints, *self._limits.T),
            gripper_opening=self._gripper.opening(data, from_controls=from_controls),
        )

    def command(
        self, data: mujoco.MjData, state: ControlState, action: Float[np.ndarray, " 7"]
    ) -> tuple[ControlState, tuple[Violation, ...]]:
        """Return the targets after one action, and the joints whose limits keep the arm from the target pose."""
        position, quaternion = self._target_pose(data, state, action)
        start = state.joint_targets
        at, turned = self._arm.forward(data, start)
        size = float(np.linalg.norm(weighted(position - at, rotation_between(turned, quaternion))))
        most = np.minimum(self._max_step, HOME_STEP + JOINT_STEP_PER_METRE * size)
        low, high = np.maximum(self._limits[:, 0], start - most), np.minimum(self._limits[:, 1], start + most)
        solution = solve(
            lambda joints: self._arm.linearized(data, joints),
            start,
            position,
            quaternion,
            np.stack([low, high], axis=1),
            self._rest(start),
        )
        opening, value, hold = self._gripper.after(state, float(action[6]))
        after = ControlState(
            joint_targets=solution.joints, gripper_opening=opening, gripper_value=value, gripper_hold=hold
        )
        return after, () if solution.reached else self._violations(solution)

    def drive(self, data: mujoco.MjData, before: ControlState, after: ControlState, fraction: float) -> None:
        """Write the controls of one physics step, at a fraction of the way from `before` to `after`."""
        motion = after.joint_targets - before.joint_targets
        moves = fraction < 1
        self._actuators.write(data, before.joint_targets + fraction * motion, motion * self._settings.rate_hz * moves)
        self._gripper.write(data, after.gripper_opening)

    def _is_near(self, data: mujoco.MjData, joints: Float[np.ndarray, " joints"]) -> bool:
        position, quaternion = self._arm.pose(data)
        at, turned = self._arm.forward(data, joints)
        return bool(
            np.linalg.norm(at - position) <= self._max_lead_m
            and np.linalg.norm(rotation_between(quaternion, turned)) <= self._max_lead_rad
        )

    def _target_pose(
        self, data: mujoco.MjData, state: ControlState, action: Float[np.ndarray, " 7"]
    ) -> tuple[Vector, Quaternion]:
        """Add an action to the pose of the last targets, and keep the sum near the arm."""
        position, quaternion = self._arm.forward(data, state.joint_targets)
        shift = shortened(action[:3], self._settings.max_translation_m)
        turn = rotation_between(IDENTITY, quaternion_from_rpy(action[3:6]))
        delta = quaternion_from_vector(shortened(turn, self._settings.max_rotation_rad))
        if self._settings.frame == "base":
            position, quaternion = position + shift, product(delta, quaternion)
        else:
            position, quaternion = position + rotate(shift, quaternion), product(quaternion, delta)
        at, turned = self._arm.pose(data)
        lead = shortened(rotation_between(turned, quaternion), self._max_lead_rad)
        return at + shortened(position - at, self._max_lead_m), product(quaternion_from_vector(lead), turned)

    def _rest(self, start: Float[np.ndarray, " joints"]) -> Float[np.ndarray, " joints"]:
        """Return a pose a little nearer to home: the robot's own, else the middle of the joints' ranges."""
        home = self._arm.home
        if home is None:
            limited = np.isfinite(self._limits).all(axis=1)
            home = np.where(limited, np.where(limited[:, None], self._limits, 0.0).mean(axis=1), start)
        return start + np.clip(home - start, -HOME_STEP, HOME_STEP)

    def _violations(self, solution: Solution) -> tuple[Violation, ...]:
        low, high = self._limits.T
        crossed = {
            joint: bound[joint]
            for bound, beyond in ((low, solution.wanted < low), (high, solution.wanted > high))
            for joint in np.flatnonzero(beyond & (solution.joints == bound))
        }
        return tuple(
            Violation(
                kind="joint",
                what=self._arm.robot.joints[joint],
                value=float(solution.wanted[joint]),
                limit=float(limit),
            )
            for joint, limit in sorted(crossed.items())
        )
