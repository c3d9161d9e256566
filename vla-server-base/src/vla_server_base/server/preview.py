"""What a chunk of actions is predicted to do in the scene: for `preview`, `guard` and joint positions."""

import time
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vla_server_base.errors import ActionRejected
from vla_server_base.scenes.messages import RolloutReply, RolloutRequest, Scene
from vla_server_base.schemas.inputs import PredictInputs
from vla_server_base.schemas.motion import motion_reply
from vla_server_base.schemas.predict import JOINT_POSITION
from vla_server_base.schemas.predict_reply import PredictReply
from vla_server_base.server.service import Service


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What the chunk is predicted to do in the scene."""

    rollout: RolloutReply
    total_ms: float


async def preview_chunk(
    service: Service, inputs: PredictInputs, scene: Scene, chunk: Float[np.ndarray, "horizon action_dim"]
) -> Preview:
    """Roll a chunk out in the scene.

    Raises:
        ActionRejected: it leaves the bounds, and the guard is to reject it.
    """
    started = time.perf_counter()
    settings = inputs.scene
    assert settings is not None, "a request with a scene says how its arm moves"
    request = RolloutRequest(
        start=settings.state,
        actions=chunk,
        robot=settings.robot,
        control=settings.control,
        bounds=settings.bounds,
        clamp=settings.guard == "clamp",
        poses=settings.wants_poses,
    )
    rollout = await service.roll_out(scene, request)
    violations = [violation for step in rollout.steps for violation in step.violations]
    if settings.guard == "reject" and violations:
        first = violations[0]
        raise ActionRejected(
            f"the policy's action would leave the bounds: {first.kind} of {first.what} {first.value:.4g},"
            f" limit {first.limit:.4g}" + (f", and {len(violations) - 1} more" if len(violations) > 1 else ""),
            hint="guard: warn returns the chunk and its violations, guard: clamp limits the chunk to the bounds",
        )
    return Preview(rollout=rollout, total_ms=1e3 * (time.perf_counter() - started))


def add_preview(reply: PredictReply, inputs: PredictInputs, preview: Preview) -> None:
    """Add what the chunk does, clamp it if the guard did, and form joint positions if requested."""
    steps, robot = preview.rollout.steps, preview.rollout.robot
    assert robot is not None, "a controlled rollout has an arm"
    assert inputs.scene is not None, "the chunk was rolled out in it"
    for action, step in zip(reply.actions, steps, strict=True):
        action[:6] = [step.scale * number for number in action[:6]]
    if inputs.scene.guard == "clamp":
        num_moving = min(6, len(reply.action))
        reply.action[:num_moving] = reply.actions[0][:num_moving]
    if inputs.wants_joint_positions:
        reply.action = [*steps[0].joint_targets.tolist(), reply.actions[0][-1]]
        reply.action_format = JOINT_POSITION
        reply.action_names = [*robot.joints, "gripper"]
    if inputs.scene.wants_preview or inputs.scene.wants_poses or inputs.scene.guard != "off":
        reply.preview = [motion_reply(step) for step in steps]
    if inputs.scene.wants_poses:
        names = preview.rollout.names
        assert names is not None, "a rollout from a SceneState names its parts"
        reply.body_names, reply.pose_bodies = list(names.bodies), list(names.moving_bodies)
    reply.timing_ms.preview = round(preview.total_ms, 3)
