"""A robot's client for vision-language-action policy servers."""

import importlib
import typing

from vla_client.errors import (
    DeadlineExceeded,
    ObservationError,
    PolicyError,
    ProtocolError,
    SessionLost,
    Unauthorized,
    Unreachable,
    VLAError,
)

if typing.TYPE_CHECKING:
    from vla_client.control_loop import ControlLoop
    from vla_client.loop_statistics import LoopStatistics, Percentiles
    from vla_client.metadata import Camera, Metadata
    from vla_client.policy import Policy

__version__ = "0.1.0"

__all__ = [
    "Camera",
    "ControlLoop",
    "DeadlineExceeded",
    "LoopStatistics",
    "Metadata",
    "ObservationError",
    "Percentiles",
    "Policy",
    "PolicyError",
    "ProtocolError",
    "SessionLost",
    "Unauthorized",
    "Unreachable",
    "VLAError",
]

# They import numpy and websockets; a server's `--help` reads the errors alone.
_LAZY = {
    "Camera": "vla_client.metadata",
    "ControlLoop": "vla_client.control_loop",
    "LoopStatistics": "vla_client.loop_statistics",
    "Metadata": "vla_client.metadata",
    "Percentiles": "vla_client.loop_statistics",
    "Policy": "vla_client.policy",
}


def __getattr__(name: str) -> typing.Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
