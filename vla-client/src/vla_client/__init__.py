"""A robot's end of a policy server, with numpy, msgspec and websockets alone; `environment` has it in gymnasium."""

from vla_client.errors import Late, ObservationError, PolicyError, SessionLost, Unreachable
from vla_client.metadata import Camera, Metadata
from vla_client.policy import Policy

__all__ = ["Camera", "Late", "Metadata", "ObservationError", "Policy", "PolicyError", "SessionLost", "Unreachable"]

__version__ = "0.1.0"
