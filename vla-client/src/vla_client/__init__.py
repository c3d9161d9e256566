"""A robot's client for vision-language-action policy servers."""

from vla_client.errors import (
    DeadlineExceeded,
    ObservationError,
    PolicyError,
    ProtocolError,
    SessionLost,
    Unreachable,
    VLAError,
)
from vla_client.metadata import Camera, Metadata
from vla_client.policy import Policy

__version__ = "0.1.0"

__all__ = [
    "Camera",
    "DeadlineExceeded",
    "Metadata",
    "ObservationError",
    "Policy",
    "PolicyError",
    "ProtocolError",
    "SessionLost",
    "Unreachable",
    "VLAError",
]
