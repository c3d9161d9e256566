"""Rolls out a simulation: from a start, through actions, to the result of each."""

from dataclasses import replace

import mujoco
import numpy as np
from cachetools import LRUCache
from jaxtyping import Float

from vla_server_base.scenes.messages import (
    BodyPoses,
    ControlSettings,
    ControlState,
    Cost,
    Pose,
    RolloutReply,
    RolloutRequest,
    RolloutStep,
    SceneNames,
    SceneState,
    Snapshot,
)
from vla_server_base.scenes.robots import RobotDescription
from vla_server_base.scenes.worker.arms.arm import Arm
from vla_server_base.scenes.worker.arms.arm_search import find_arm
from vla_server_base.scenes.worker.arms.controllers import Controller
from vla_server_base.scenes.worker.arms.proprioception import Proprioception
from vla_server_base.scenes.worker.simulation.monitor import Monitor
from vla_server_base.scenes.worker.simulation.physics import Physics
from vla_server_base.scenes.worker.simulation.pose_track import PoseTrack, joined, moving_bodies, poses_now
from vla_server_base.scenes.worker.simulation.request_limits import check_amount

CUTS = (1.0, 0.75, 0.5, 0.25, 0.0)
"""The parts of a motion that `clamp` tries, the whole first."""

MAX_CACHED_ARMS = 8


class Simulation:
    """A compiled scene and the arms that were found in it."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData):
        self._physics = Physics(model, data)
        self._arms: LRUCache[str | RobotDescription | None, tuple[Arm, Proprioception]] = LRUCache(MAX_CACHED_ARMS)

    def roll_out(self, request: RolloutRequest) -> RolloutReply:
        """Continue as the request says; the data stay at the end, with all that rendering needs computed.

        Raises:
            SceneStateError, UnknownName, SceneError: a state, a robot, bodies or joints that do not fit the scene.
            SceneRefused: more physics steps, or more poses, than one request may take.
            SceneUnstable: the simulation blew up.
        """
        check_amount(self._physics.model, request)
        self._physics.begin(request.start, request.body_poses)
        if request.control is None:
            return _drift(self._physics, request)
        arm, sensors = self._arm(request.robot)
        reply = _ControlledRollout(self._physics, arm, request.control, request).roll_out()
        return replace(reply, proprio=sensors.measure(self._physics.data), proprio_names=sensors.names)

    def sensors(self, robot: str | RobotDescription | None) -> Proprioception:
        """Return the sensors of an arm.

        Raises:
            UnknownName, SceneError: see `arm_search.find_arm`.
        """
        return self._arm(robot)[1]

    def _arm(self, wanted: str | RobotDescription | None) -> tuple[Arm, Proprioception]:
        if wanted not in self._arms:
            arm = find_arm(self._physics.model, wanted)
            self._arms[wanted] = arm, Proprioception(arm)
        return self._arms[wanted]


def _drift(physics: Physics, request: RolloutRequest) -> RolloutReply:
    """Let time pass without control."""
    monitor = Monitor(physics.model, physics.data, None, request.bounds, request.measures)
    for _ in range(physics.num_steps(request.hold_s)):
        physics.step()
    physics.settle()
    return RolloutReply(
        steps=(),
        state=physics.state(),
        pose=None,
        measures=monitor.measure(),
        end=Snapshot(physics=physics.full_state(), control=None),
        robot=None,
        names=_names(physics.model, request),
        view=None,
        cost=Cost(),
        body_poses=poses_now(physics.model, physics.data) if request.poses else None,
    )


class _ControlledRollout:
    """The actions of one request, executed one after another."""

    def __init__(self, physics: Physics, arm: Arm, settings: ControlSettings, request: RolloutRequest):
        self._physics, self._arm, self._request = physics, arm, request
        self._settings = settings
        self._controller = Controller(arm, settings)
        self._steps_per_action = max(1, physics.num_steps(1 / settings.rate_hz))
        self._monitor = Monitor(physics.model, physics.data, arm, request.bounds, request.measures)
        control = request.start.control if isinstance(request.start, Snapshot) else None
        self._control: ControlState = control or self._controller.start(physics.data)

    def roll_out(self) -> RolloutReply:
        hold_poses = self._hold()
        physics = self._physics
        state, pose, measures = physics.state(), self._pose(), self._monitor.measure()
        start_poses = poses_now(physics.model, physics.data) if self._request.poses else None
        steps = [self._execute(action) for action in self._request.actions]
        if steps and hold_poses is not None and steps[0].body_poses is not None:
            steps[0] = replace(steps[0], body_poses=joined(hold_poses, steps[0].body_poses))
        return RolloutReply(
            steps=tuple(steps),
            state=state,
            pose=pose,
            measures=measures,
            end=Snapshot(physics=physics.full_state(), control=self._control),
            robot=self._arm.robot,
            base=self._arm.base,
            names=_names(physics.model, self._request),
            view=None,
            cost=Cost(),
            body_poses=start_poses,
        )

    def _hold(self) -> BodyPoses | None:
        num_steps = self._physics.num_steps(self._request.hold_s)
        track = self._track(num_steps, self._request.hold_s)
        for number in range(1, num_steps + 1):
            self._controller.drive(self._physics.data, self._control, self._control, 1.0)
            self._physics.step()
            if track is not None:
                track.update(number)
        self._physics.settle()
        return track and track.body_poses()

    def _track(self, num_steps: int, seconds: float) -> PoseTrack | None:
        """Return a track of the next physics steps, if the request asks for poses."""
        return PoseTrack(self._physics.model, self._physics.data, num_steps, seconds) if self._request.poses else None

    def _execute(self, action: Float[np.ndarray, " 7"]) -> RolloutStep:
        """Execute one action for one control period, or with `clamp` as much of its motion as stays in bounds."""
        if not self._request.clamp:
            return self._execute_part(action, 1.0)
        physics, control = self._physics.full_state(), self._control
        for scale in CUTS[:-1]:
            step = self._execute_part(action, scale)
            if not step.violations:
                return step
            self._physics.restore(physics)
            self._control = control
        return self._execute_part(action, CUTS[-1])

    def _execute_part(self, action: Float[np.ndarray, " 7"], scale: float) -> RolloutStep:
        physics, before = self._physics, self._control
        part = np.concatenate([scale * action[:6], action[6:]])
        self._control, cut = self._controller.command(physics.data, before, part)
        metrics, track = self._monitor.start_step(), self._track(self._steps_per_action, 1 / self._settings.rate_hz)
        for number in range(1, self._steps_per_action + 1):
            self._controller.drive(physics.data, before, self._control, number / self._steps_per_action)
            physics.step()
            metrics.update(is_last=number == self._steps_per_action)
            if track is not None:
                # After the metrics, which see the kinematics that the step itself has computed.
                track.update(number)
        physics.settle()
        metrics.include_target(self._control.joint_targets)
        return RolloutStep(
            state=physics.state(),
            joint_targets=self._control.joint_targets,
            pose=self._pose(),
            gripper_opening=self._control.gripper_opening,
            contacts=metrics.contacts(),
            violations=(*cut, *metrics.violations()),
            measures=self._monitor.measure(),
            scale=scale,
            body_poses=track and track.body_poses(),
        )

    def _pose(self) -> Pose:
        position, quaternion = self._arm.pose(self._physics.data)
        return Pose(position=position, quaternion=quaternion)


def _names(model: mujoco.MjModel, request: RolloutRequest) -> SceneNames | None:
    if not isinstance(request.start, SceneState):
        return None
    return SceneNames(
        joints=tuple(model.joint(i).name for i in range(model.njnt)),
        bodies=tuple(model.body(i).name for i in range(model.nbody)),
        moving_bodies=tuple(moving_bodies(model).tolist()),
    )
