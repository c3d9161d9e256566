"""A session in a request: its name, how it acts, and where in it the request belongs."""

from typing import Annotated, Any

import pydantic
from pydantic import Field

from vla_server_base.contract import Observation, Task
from vla_server_base.execution import Execution
from vla_server_base.schemas.base import Body
from vla_server_base.schemas.ranges import EnsembleWeight, ExecutionHorizon, Hertz, Milliseconds, Seconds, Step
from vla_server_base.sessions.requests import StepRequest

SessionId = Annotated[
    str | None,
    Field(
        description="Names the robot's session, which begins with its first request: 1 to 128 letters, digits "
        "or any of . _ : @ / + -"
    ),
]
SessionToken = Annotated[
    str | None,
    Field(
        description="`session.token` of an earlier reply, instead of session_id: resumes its session, also "
        "after a restart."
    ),
]
Model = Annotated[
    str | None,
    Field(
        description="The id of a model that the server holds (GET /models), to be answered by it; by default the one "
        "that serves, or the session's own."
    ),
]
ReturnToken = Annotated[
    bool,
    Field(description="Whether the reply has `session.token`; it is about as large as the images."),
]
Reset = Annotated[
    bool,
    Field(description="Whether a new episode begins with this request."),
]
Sequence = Annotated[
    Step | None,
    Field(
        description="Which control step the observation is of; older ones are refused, skipped ones left out "
        "of the chunk."
    ),
]
ObsTime = Annotated[
    Seconds | None,
    Field(description="When it was made, in seconds of any clock; orders observations where there is no sequence."),
]
DeadlineMs = Annotated[
    Milliseconds | None,
    Field(description="From the request's arrival; an answer that takes longer is refused as `deadline_exceeded`."),
]
ExecutionMode = Annotated[
    Execution | None,
    Field(
        description="The policy is asked at every step (receding), after some actions (chunk), averaged (ensemble), "
        "or asked ahead for a chunk that continues the last one (rtc, aligned, blended); by default the policy's own."
    ),
]
Horizon = Annotated[
    ExecutionHorizon | None,
    Field(
        description="With chunk, actions of each chunk that are executed before the policy is asked again; with rtc "
        "and blended, the row until which the last chunk counts."
    ),
]
Weight = Annotated[
    EnsembleWeight | None,
    Field(description="How much more older chunks count; goes with ensemble. 0 by default: all count the same."),
]
InferenceDelay = Annotated[
    Step | None,
    Field(
        description="Steps that the robot executes until it has the answer; goes with rtc, aligned and blended. "
        "Left out, it is measured."
    ),
]
ControlHz = Annotated[
    Hertz | None,
    Field(description="The robot's control steps per second, by which a measured latency is counted in steps."),
]


class StepFields(Body):
    """The session of a message."""

    session_id: SessionId = None
    session_token: SessionToken = None
    return_token: ReturnToken = False
    reset: Reset = False
    sequence: Sequence = None
    obs_time: ObsTime = None
    deadline_ms: DeadlineMs = None
    execution: ExecutionMode = None
    execution_horizon: Horizon = None
    ensemble_weight: Weight = None
    inference_delay: InferenceDelay = None
    control_hz: ControlHz = None

    @pydantic.model_validator(mode="after")
    def _of_one_session(self):
        check_session(self)
        return self


_GOES_WITH = {"execution_horizon": ("chunk", "rtc", "blended"), "ensemble_weight": ("ensemble",)}


def check_session(fields: Any) -> None:
    """Refuse session fields that contradict each other.

    Raises:
        ValueError: two of them do.
    """
    if fields.session_id is not None and fields.session_token is not None:
        raise ValueError("session_id and session_token both name a session: give one")
    for name, executions in _GOES_WITH.items():
        if getattr(fields, name) is not None and fields.execution not in executions:
            raise ValueError(f"{name} can only be given together with execution {' or '.join(executions)}")


def step_from_fields(
    fields: StepFields, observation: Observation, task: Task, *, seed: int | None, **settings: str | None
) -> StepRequest:
    """Return the request to a session; `settings` are the SessionSettings that other fields hold."""
    return StepRequest(observation=observation, task=task, seed=seed, **session_values(fields, **settings))


def session_values(fields: Any, **settings: str | None) -> dict[str, Any]:
    """Return the values of a StepRequest that session fields hold; `settings` as in `settings_from_fields`."""
    return {
        "session_id": fields.session_id,
        "token": fields.session_token,
        "return_token": fields.return_token,
        "reset": fields.reset,
        "sequence": fields.sequence,
        "obs_time": fields.obs_time,
        "deadline_ms": fields.deadline_ms,
        "inference_delay": fields.inference_delay,
        "settings": settings_from_fields(fields, **settings),
    }


def settings_from_fields(fields: Any, **settings: str | None) -> dict[str, Any]:
    """Return the SessionSettings of a request: of its session fields, and `settings` of its other fields."""
    given = {
        "execution": fields.execution,
        "execution_horizon": fields.execution_horizon,
        "ensemble_weight": fields.ensemble_weight,
        "control_hz": fields.control_hz,
        **settings,
    }
    return {name: value for name, value in given.items() if value is not None}
