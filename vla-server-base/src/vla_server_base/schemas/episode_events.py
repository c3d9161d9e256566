"""An episode's events as /execute sends them."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from vla_server_base.episodes.events import EpisodeChange, EpisodeEnd, EpisodeStart, EpisodeStep, StepTiming
from vla_server_base.episodes.settings import Criterion
from vla_server_base.request_context import current_request_id
from vla_server_base.request_inputs import encode_jpeg, encode_png
from vla_server_base.scenes.messages import RenderedView, SimulationState
from vla_server_base.schemas.change import change_to_body
from vla_server_base.schemas.execute_reply import (
    ChangeEvent,
    CriterionReply,
    EndEvent,
    RobotReply,
    StartEvent,
    StateReply,
    StepEvent,
    StepTimingReply,
)
from vla_server_base.schemas.inputs import FrameFormat
from vla_server_base.schemas.motion import body_poses_reply, motion_fields, motion_reply


def start_event(
    start: EpisodeStart,
    frames: FrameFormat,
    seed: int,
    scene_id: str,
    dataset: str | None,
    notes: Sequence[str],
) -> StartEvent:
    """Return the first event of a stream."""
    event = StartEvent(
        request_id=current_request_id.get(),
        scene_id=scene_id,
        scene_compile_ms=round(start.cost.compile_ms, 3),
        scene_memory_mb=round(start.cost.num_bytes / 2**20, 3),
        seed=seed,
        dataset=dataset,
        state=state_reply(start.state),
        robot=RobotReply(
            name=start.robot.name,
            joints=list(start.robot.joints),
            end_effector=start.robot.end_effector,
            base=start.base,
            has_gripper=start.robot.gripper is not None,
        ),
        joint_names=list(start.names.joints),
        body_names=list(start.names.bodies),
        pose_bodies=None if start.body_poses is None else list(start.names.moving_bodies),
        poses=body_poses_reply(start.body_poses),
        criteria=_criteria(start.criteria),
        cameras=dict(start.view.cameras),
        geom_groups=list(start.view.geom_groups),
    )
    if notes:
        event.notes = list(notes)
    return _with_images(event, start.view, frames)


def step_event(step: EpisodeStep, frames: FrameFormat) -> StepEvent:
    """Return one step's event."""
    event = StepEvent(
        index=step.index,
        action=step.action.tolist(),
        state=state_reply(step.result.state),
        success=step.success,
        criteria=_criteria(step.criteria),
        chunk=None if step.chunk is None else step.chunk.tolist(),
        timing_ms=_timing(step.timing),
        **motion_fields(step.result),
    )
    if step.preview is not None:
        event.preview = [motion_reply(motion) for motion in step.preview]
    return _with_images(event, step.view, frames)


def change_event(change: EpisodeChange, frames: FrameFormat) -> ChangeEvent:
    """Return the event of something that was changed."""
    changed: dict[str, Any] = {"step": change.index} if change.change is None else change_to_body(change.change)
    event = ChangeEvent(status=change.status, pace=change.pace, **changed)
    if change.state is not None:
        event.state = state_reply(change.state)
    if change.body_poses is not None:
        event.poses = body_poses_reply(change.body_poses)
    return _with_images(event, change.view, frames)


def end_event(end: EpisodeEnd, recordings: dict[str, str]) -> EndEvent:
    """Return the last event of a stream."""
    event = EndEvent(
        reason=end.reason,
        num_steps=end.num_steps,
        success=end.success,
        duration_ms=round(end.duration_ms, 3),
        recordings=recordings,
    )
    if end.rejected is not None:
        event.rejected = [motion_reply(motion) for motion in end.rejected]
    return event


def state_reply(state: SimulationState) -> StateReply:
    """Return a state as replies have it."""
    return StateReply(
        qpos=state.qpos.tolist(), qvel=state.qvel.tolist(), ctrl=state.ctrl.tolist(), time=round(state.time_s, 9)
    )


def _timing(timing: StepTiming) -> StepTimingReply:
    return StepTimingReply(
        predict=round(timing.predict_ms, 3),
        preview=round(timing.preview_ms, 3),
        physics=round(timing.physics_ms, 3),
        render=round(timing.render_ms, 3),
        total=round(timing.total_ms, 3),
    )


def _criteria(criteria: Iterable[Criterion]) -> list[CriterionReply]:
    return [CriterionReply(value=criterion.value, holds=criterion.holds) for criterion in criteria]


_ENCODERS = {"jpeg": encode_jpeg, "png": encode_png}
EventWithImages = TypeVar("EventWithImages", StartEvent, StepEvent, ChangeEvent)


def _with_images(event: EventWithImages, view: RenderedView | None, frames: FrameFormat) -> EventWithImages:
    if view is not None and frames != "none":
        event.images = {name: _ENCODERS[frames](image) for name, image in view.images.items()}
    return event
