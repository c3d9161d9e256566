"""What is read from the messages of LeRobot's asynchronous inference."""

from typing import Any

from pydantic import Field

from vla_server_base.schemas.base import Body
from vla_server_base.schemas.ranges import ExecutionHorizon, Seconds, Step


class SetupFields(Body):
    """The fields that are read from a RemotePolicyConfig."""

    policy_type: str
    pretrained_name_or_path: str
    actions_per_chunk: ExecutionHorizon
    lerobot_features: dict[str, Any] = Field(default_factory=dict)
    rename_map: dict[str, str] = Field(default_factory=dict)


class ObservationFields(Body):
    """The fields that are read from a TimedObservation."""

    timestamp: Seconds
    timestep: Step
    observation: dict[str, Any]
    must_go: bool = False
    inference_delay: Step | None = None
