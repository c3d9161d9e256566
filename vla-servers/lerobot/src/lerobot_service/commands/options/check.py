"""Flags of `lerobot-service check`."""

from dataclasses import dataclass, fields
from typing import Annotated

import tyro

from lerobot_service.config import LeRobotConfig
from vla_server_base.commands.flags import flags_of
from vla_server_base.config import ServerConfig
from vla_server_base.schemas.ranges import Seed

OF_A_CHECKPOINT = tuple(field.name for field in fields(LeRobotConfig) if field.name not in ("model", "execution"))
"""The settings of a command whose checkpoint is an argument; `evaluate` has its own `--execution`."""


@dataclass(frozen=True, kw_only=True)
class CheckCheckpoint:
    """Load a checkpoint, print what it takes and gives, and compare a prediction with LeRobot's own."""

    checkpoint: Annotated[str, tyro.conf.Positional]
    """A checkpoint's folder, a training run's folder, or hf://organization/name[@revision]."""

    seed: Seed = 0
    """Of the prediction's noise."""

    server: Annotated[ServerConfig, flags_of(ServerConfig, "VLA", "device")]
    config: Annotated[LeRobotConfig, flags_of(LeRobotConfig, "LEROBOT", *OF_A_CHECKPOINT)]
