"""What somebody who watches a session gets: its steps, with what the policy saw."""

from vla_server_base.request_inputs import encode_jpeg
from vla_server_base.schemas.base import Reply
from vla_server_base.sessions.answered_steps import AnsweredStep


class AnsweredTiming(Reply):
    """Milliseconds that a step took."""

    queue: float
    """Waiting for the device; 0 where the policy was not asked."""
    infer: float
    """On the device; 0 where the policy was not asked."""
    total: float
    """From when the session got the request to its answer: without reading and writing messages."""


class AnsweredStepEvent(Reply):
    """One control step that was answered."""

    step: int
    """Which step of the episode it was."""
    model: str
    """The id of the model that the robot's session is on."""
    instruction: str | None
    action: list[float]
    """The action that the robot got, in the session's format."""
    actions: list[list[float]]
    """The known actions from this step on, un-normalized: the chunk, what is left of it, or this one alone."""
    action_names: list[str]
    """What each number of `action` is."""
    dataset: str | None
    """Whose statistics un-normalized it."""
    asked_policy: bool
    """False where the action was in the chunk already."""
    sequence: int | None
    """As the robot sent it."""
    timing_ms: AnsweredTiming
    images: dict[str, str]
    """What the policy got, by its camera names: base64 JPEG, of the size at which it was kept."""
    proprio: list[float] | None
    """As the robot sent it."""
    time: float
    """When it was answered: seconds since 1970."""


def answered_step_event(step: AnsweredStep) -> AnsweredStepEvent:
    """Return the event of a step; not for the event loop."""
    result, proprio = step.result, step.observation.proprio
    timing = AnsweredTiming(
        queue=round(result.queue_ms, 3), infer=round(result.infer_ms, 3), total=round(step.total_ms, 3)
    )
    return AnsweredStepEvent(
        step=result.step,
        model=result.model,
        instruction=step.instruction,
        action=result.action.action.tolist(),
        actions=result.action.actions.tolist(),
        action_names=list(result.action.action_names),
        dataset=result.dataset,
        asked_policy=result.asked_policy,
        sequence=result.sequence,
        timing_ms=timing,
        images={name: encode_jpeg(image) for name, image in step.observation.images.items()},
        proprio=None if proprio is None else proprio.tolist(),
        time=round(step.time, 3),
    )
