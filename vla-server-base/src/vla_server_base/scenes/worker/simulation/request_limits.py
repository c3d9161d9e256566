"""Refuses rollouts that would take too many physics steps, or return too many poses, before they start."""

import mujoco

from vla_server_base.errors import SceneRefused
from vla_server_base.scenes import limits
from vla_server_base.scenes.messages import RolloutRequest
from vla_server_base.scenes.worker.simulation.pose_track import moving_bodies, num_frames


def check_amount(model: mujoco.MjModel, request: RolloutRequest) -> None:
    """Check how much a request asks for.

    Raises:
        SceneRefused: more physics steps, or more poses, than one request may take.
    """
    period = 1 / request.control.rate_hz if request.control else 0.0
    _check_physics_steps(request, period, model.opt.timestep)
    if request.poses:
        _check_poses(request, period, model.opt.timestep, len(moving_bodies(model)))


def _check_physics_steps(request: RolloutRequest, period: float, timestep: float) -> None:
    if request.control and not 0 < timestep <= period:
        raise SceneRefused(
            f"a step of the scene is {timestep:g} s, and an action lasts {period:g} s",
            hint='<option timestep="0.002"/> is usual; control.rate_hz says how long an action lasts',
        )
    num_steps = (request.hold_s + len(request.actions) * period) / timestep
    if not num_steps <= limits.MAX_PHYSICS_STEPS:
        raise SceneRefused(
            f"one request would take {num_steps:.0f} steps of the scene's {timestep:g} s",
            hint=f'the limit is {limits.MAX_PHYSICS_STEPS}; <option timestep="0.002"/> is usual',
        )


def _check_poses(request: RolloutRequest, period: float, timestep: float, num_bodies: int) -> None:
    # One frame is the start's.
    frames = 1 + num_frames(round(request.hold_s / timestep), request.hold_s)
    frames += len(request.actions) * num_frames(round(period / timestep), period)
    num_numbers = 7 * frames * num_bodies
    if num_numbers > limits.MAX_POSE_NUMBERS:
        raise SceneRefused(
            f"the poses of {num_bodies} moving bodies in {frames} frames would be {num_numbers} numbers",
            hint=f"the limit is {limits.MAX_POSE_NUMBERS}; send poses: false, or a scene with fewer moving bodies",
        )
