"""What /execute answers: an episode as one reply, or event by event."""

from collections.abc import Sequence
from typing import Literal, TypeVar

from vla_server_base.episodes.events import EpisodeEnd, EpisodeStart, EpisodeStep, StepTiming
from vla_server_base.images import encode_jpeg
from vla_server_base.scenes.messages import Pictures, SimulationState
from vla_server_base.schemas.motion import MotionReply, motion_fields, motion_reply
from vla_server_base.schemas.reply import Reply


class StateReply(Reply):
    """Where the simulation stands: what `state` of a request takes, and the time."""

    qpos: list[float]
    """Joint positions in MuJoCo's order [m, rad, quaternions w x y z]."""
    qvel: list[float]
    """Joint velocities [m/s, rad/s]."""
    ctrl: list[float]
    """Actuator controls."""
    time: float
    """Simulated time [s]."""


class StepTimingReply(Reply):
    """Milliseconds of one step."""

    predict: float
    """The policy; 0 where a chunk was still being executed."""
    preview: float
    """Rolling the chunk out for `guard`."""
    physics: float
    render: float
    total: float


class StepReply(MotionReply):
    """One action and what came of it."""

    index: int
    timing_ms: StepTimingReply
    preview: list[MotionReply] | None = None
    """What the chunk asked for at this step was predicted to do, where there is a guard."""


class RobotReply(Reply):
    """The arm that was driven."""

    name: str
    joints: list[str]
    end_effector: str
    has_gripper: bool


class StartEvent(Reply):
    """`event: start`: the scene before the first action."""

    request_id: str
    scene_id: str
    scene_compile_ms: float
    """Compiling the scene; 0 where it was still held."""
    scene_memory_mb: float
    """What holding the scene takes: the compiled model and one simulation."""
    seed: int
    dataset: str | None
    """Whose statistics un-normalize the actions."""
    notes: list[str] | None = None
    """What was done that the request does not say, or says otherwise: a default instruction, a dataset's other name."""
    state: StateReply
    robot: RobotReply
    joint_names: list[str]
    body_names: list[str]
    cameras: dict[str, str]
    """Which of the scene's cameras each of the policy's cameras is."""
    geom_groups: list[int]
    """The groups of geoms that are drawn."""
    unknown_words: list[str] | None = None
    """Words of the instruction that the policy's vocabulary does not cover: to it they are all the same."""
    images: dict[str, str] | None = None
    """Base64 JPEG by the policy's camera names, where `frames` asks for them."""


class StepEvent(StepReply):
    """`event: step`: one action, the state that it led to, and a picture of it."""

    action: list[float]
    state: StateReply
    success: bool
    images: dict[str, str] | None = None
    """Base64 JPEG by the policy's camera names, where `frames` asks for them."""


class EndEvent(Reply):
    """`event: end`: why the episode is over."""

    reason: Literal["success", "max_steps", "rejected"]
    num_steps: int
    success: bool | None
    """Whether all predicates held; null where none was given."""
    duration_ms: float
    rejected: list[MotionReply] | None = None
    """What the chunk that `guard` did not let out was predicted to do."""
    recordings: dict[str, str]
    """Where asked for: `webp`, an animation as base64; `state_log`, MJCF with a keyframe for each state."""


class ExecuteReply(Reply):
    """A whole episode."""

    actions: list[list[float]]
    """What the policy had executed, un-normalized: dx, dy, dz, droll, dpitch, dyaw, gripper."""
    states: list[StateReply]
    """The state after each action."""
    initial_state: StateReply
    """The state before the first."""
    duration_ms: float
    """How long the episode took to compute."""
    reason: Literal["success", "max_steps", "rejected"]
    """Why it ended."""
    success: bool | None
    """Whether all predicates held in the end; null where none was given."""
    seed: int
    steps: list[StepReply]
    """What each action did to the arm, and what it cost."""
    rejected: list[MotionReply] | None = None
    """What the chunk that `guard` did not let out was predicted to do."""
    robot: RobotReply
    joint_names: list[str]
    body_names: list[str]
    cameras: dict[str, str]
    geom_groups: list[int]
    dataset: str | None
    """Whose statistics un-normalize the actions."""
    notes: list[str] | None = None
    """What was done that the request does not say, or says otherwise: a default instruction, a dataset's other name."""
    model: str
    weights: Literal["pretrained", "random", "none"]
    unknown_words: list[str] | None = None
    """Words of the instruction that the policy's vocabulary does not cover: to it they are all the same."""
    scene_id: str
    scene_compile_ms: float
    """Compiling the scene; 0 where it was still held."""
    scene_memory_mb: float
    """What holding the scene takes: the compiled model and one simulation."""
    request_id: str
    recordings: dict[str, str]
    """Where asked for: `webp`, an animation as base64; `state_log`, MJCF with a keyframe for each state."""


def start_event(
    start: EpisodeStart,
    pictures: Pictures | None,
    seed: int,
    scene_id: str,
    request_id: str,
    dataset: str | None,
    notes: Sequence[str],
) -> StartEvent:
    """Return the first event of a stream."""
    event = StartEvent(
        request_id=request_id,
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
            has_gripper=start.robot.gripper is not None,
        ),
        joint_names=list(start.names.joints),
        body_names=list(start.names.bodies),
        cameras=dict(start.pictures.cameras),
        geom_groups=list(start.pictures.geom_groups),
    )
    if notes:
        event.notes = list(notes)
    return _with_images(event, pictures)


def step_event(step: EpisodeStep, pictures: Pictures | None) -> StepEvent:
    """Return one step's event."""
    event = StepEvent(
        index=step.index,
        action=step.action.tolist(),
        state=state_reply(step.result.state),
        success=step.success,
        timing_ms=_timing(step.timing),
        **motion_fields(step.result),
    )
    if step.preview is not None:
        event.preview = [motion_reply(motion) for motion in step.preview]
    return _with_images(event, pictures)


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
    """Return a state as the client gets it."""
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


EventWithImages = TypeVar("EventWithImages", StartEvent, StepEvent)


def _with_images(event: EventWithImages, pictures: Pictures | None) -> EventWithImages:
    if pictures is not None:
        event.images = {name: encode_jpeg(image) for name, image in pictures.images.items()}
    return event
