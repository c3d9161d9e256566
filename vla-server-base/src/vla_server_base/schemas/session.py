"""The session of a request: which one it is, how it acts, and which step the request is."""

from typing import Any

import pydantic

from vla_server_base.contract import Observation, Task
from vla_server_base.schemas.base import Body
from vla_server_base.schemas.ranges import EnsembleWeight, ExecutionHorizon, Milliseconds, Seconds, Step
from vla_server_base.sessions.requests import StepRequest
from vla_server_base.sessions.settings import Execution


class StepFields(Body):
    """What a request says of its session."""

    session_id: str | None = None
    """Names the robot's session, begun with its first request: 1 to 128 letters, digits or any of . _ : @ / + -"""
    session_token: str | None = None
    """`session.token` of an earlier reply, instead of session_id: resumes its session, also after a restart."""
    return_token: bool = False
    """Whether the reply has `session.token`; it is about as large as the images."""
    reset: bool = False
    """Whether a new episode begins with this request."""
    sequence: Step | None = None
    """Which control step the observation is of; older ones are refused, skipped ones left out of the chunk."""
    obs_time: Seconds | None = None
    """When it was made, in seconds of any clock; orders observations where there is no sequence."""
    deadline_ms: Milliseconds | None = None
    """From the request's arrival; an answer that takes longer is refused as `deadline_exceeded`."""
    execution: Execution | None = None
    """The policy is asked at every step (receding, the default), after some actions (chunk), or averaged (ensemble)."""
    execution_horizon: ExecutionHorizon | None = None
    """Actions of each chunk that are executed before the policy is asked again; goes with chunk."""
    ensemble_weight: EnsembleWeight | None = None
    """How much more older chunks count; goes with ensemble. 0 by default: all count the same."""

    @pydantic.model_validator(mode="after")
    def _of_one_session(self):
        if self.session_id is not None and self.session_token is not None:
            raise ValueError("session_id and session_token both name a session: give one")
        for name, execution in (("execution_horizon", "chunk"), ("ensemble_weight", "ensemble")):
            if getattr(self, name) is not None and self.execution != execution:
                raise ValueError(f"{name} can only be given together with execution {execution}")
        return self


class SessionFields(StepFields):
    """What makes a request a step of a session, which it has to name."""

    @pydantic.model_validator(mode="after")
    def _nothing_without_a_session(self):
        alone = {"deadline_ms", "session_id", "session_token"}
        given = sorted(
            name
            for name in StepFields.model_fields.keys() - alone
            if name in self.model_fields_set and getattr(self, name) not in (None, False)
        )
        if given and not self.is_step:
            raise ValueError(f"{', '.join(given)} can only be given together with session_id or session_token")
        return self

    @property
    def is_step(self) -> bool:
        """Whether the request is of a session."""
        return self.session_id is not None or self.session_token is not None


def step_from_fields(
    fields: StepFields, observation: Observation, task: Task, *, seed: int | None, **settings: str | None
) -> StepRequest:
    """Return the step that a request asks for; `settings` are further fields of SessionSettings."""
    return StepRequest(
        observation=observation,
        task=task,
        session_id=fields.session_id,
        token=fields.session_token,
        return_token=fields.return_token,
        reset=fields.reset,
        seed=seed,
        sequence=fields.sequence,
        obs_time=fields.obs_time,
        deadline_ms=fields.deadline_ms,
        settings=settings_from_fields(fields, **settings),
    )


def settings_from_fields(fields: StepFields, **settings: str | None) -> dict[str, Any]:
    """Return what a request says of SessionSettings; `settings` are what its fields have not."""
    said = {
        "execution": fields.execution,
        "execution_horizon": fields.execution_horizon,
        "ensemble_weight": fields.ensemble_weight,
        **settings,
    }
    return {name: value for name, value in said.items() if value is not None}
