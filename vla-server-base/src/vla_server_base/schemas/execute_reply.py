"""What /execute answers: an episode as one reply, or event by event."""

from typing import Any, Literal

from vla_server_base.schemas.base import Reply
from vla_server_base.schemas.motion import BodyPosesReply, MotionReply


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
    """The policy; 0 if a chunk was still being executed."""
    preview: float
    """Rolling the chunk out for `guard`."""
    physics: float
    render: float
    total: float


class CriterionReply(Reply):
    """What a predicate of `success` measures now."""

    value: float
    """What is compared with its range: the measure, or its change since the start."""
    holds: bool


class StepReply(MotionReply):
    """One action and what came of it."""

    index: int
    criteria: list[CriterionReply]
    """The predicates after the action, in the order of `success`."""
    chunk: list[list[float]] | None
    """The policy's whole chunk, un-normalized, where it was asked at this step; else null."""
    timing_ms: StepTimingReply
    preview: list[MotionReply] | None = None
    """What the chunk asked for at this step was predicted to do, if there is a guard."""


class RobotReply(Reply):
    """The arm that was driven."""

    name: str
    joints: list[str]
    end_effector: str
    base: int
    """The body, by its index in `body_names`, in whose frame poses of the end effector are."""
    has_gripper: bool


class StartEvent(Reply):
    """`event: start`: the scene before the first action."""

    request_id: str
    scene_id: str
    scene_compile_ms: float
    """Compiling the scene; 0 if it was still cached."""
    scene_memory_mb: float
    """What holding the scene takes: the compiled model and one simulation."""
    seed: int
    model: str = ""
    """The id of the model that the whole episode asks."""
    weights: Literal["pretrained", "random", "none"] = "pretrained"
    dataset: str | None
    """Whose statistics un-normalize the actions."""
    notes: list[str] | None = None
    """What was done that the request does not say, or says otherwise: a default instruction, a dataset's other name."""
    state: StateReply
    robot: RobotReply
    joint_names: list[str]
    body_names: list[str]
    pose_bodies: list[int] | None
    """The bodies that may move, whose poses each frame has: indices into `body_names`; null without `poses`."""
    poses: BodyPosesReply | None
    """One frame: the start; null without `poses`."""
    criteria: list[CriterionReply]
    """The predicates at the start, in the order of `success`."""
    cameras: dict[str, str]
    """Which of the scene's cameras each of the policy's cameras is."""
    geom_groups: list[int]
    """The groups of geoms that are drawn."""
    unknown_words: list[str] | None = None
    """Words of the instruction that the policy's vocabulary does not cover: to it they are all the same."""
    images: dict[str, str] | None = None
    """Base64 JPEG or PNG by the policy's camera names, where `frames` asks for them."""


class StepEvent(StepReply):
    """`event: step`: one action, the state that it led to, and an image of it."""

    action: list[float]
    state: StateReply
    success: bool
    images: dict[str, str] | None = None
    """Base64 JPEG or PNG by the policy's camera names, where `frames` asks for them."""


class ChangeEvent(Reply):
    """`event: change`: what somebody changed; fields that did not change are left out, but for status and pace."""

    step: int
    """Before which step it took effect."""
    status: Literal["running", "paused"]
    pace: Literal["real_time", "fast"]
    instruction: str | None = None
    success: list[dict[str, Any]] | None = None
    """The predicates from now on, as `success` of a request takes them."""
    bodies: dict[str, dict[str, list[float]]] | None = None
    """Where bodies were put: `position`, and `quaternion` where it was given."""
    state: StateReply | None = None
    """The state after bodies were put elsewhere."""
    poses: BodyPosesReply | None = None
    """One frame: where the moving bodies are then; where `poses` asks for them."""
    images: dict[str, str] | None = None
    """The same, as the policy's cameras see it: base64 JPEG or PNG, where `frames` asks for them."""


class EndEvent(Reply):
    """`event: end`: why the episode is over."""

    reason: Literal["success", "max_steps", "rejected", "stopped"]
    num_steps: int
    success: bool | None
    """Whether all predicates held; null where none was given."""
    duration_ms: float
    rejected: list[MotionReply] | None = None
    """What the chunk that `guard` did not let out was predicted to do."""
    recordings: dict[str, str]
    """As `record` asks: `webp` and `lerobot`, a zip, as base64; `state_log`, MJCF with a keyframe for each state."""


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
    pose_bodies: list[int] | None
    """The bodies that may move, whose poses each frame has: indices into `body_names`; null without `poses`."""
    initial_poses: BodyPosesReply | None
    """One frame: the start; null without `poses`."""
    initial_criteria: list[CriterionReply]
    """The predicates at the start, in the order of `success`."""
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
    """Compiling the scene; 0 if it was still cached."""
    scene_memory_mb: float
    """What holding the scene takes: the compiled model and one simulation."""
    request_id: str
    recordings: dict[str, str]
    """As `record` asks: `webp` and `lerobot`, a zip, as base64; `state_log`, MJCF with a keyframe for each state."""
