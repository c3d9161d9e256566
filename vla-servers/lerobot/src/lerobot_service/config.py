"""LeRobotConfig: which policy is served; the server's own settings are vla_server_base's ServerConfig."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from vla_server_base.config import PolicySettings
from vla_server_base.execution import Execution

MAX_HZ = 10_000
Hertz = Annotated[float, Field(gt=0, le=MAX_HZ)]
Threads = Annotated[int, Field(ge=1, le=1024)]
"""PyTorch ends the process where it cannot start as many."""


@dataclass(frozen=True, kw_only=True)
class LeRobotConfig(PolicySettings):
    """Each field is also an environment variable: `model` is `LEROBOT_MODEL`."""

    model: str = ""
    """A checkpoint's folder, a training run's folder, or hf://organization/name[@revision]."""

    files: str = ""
    """Folders for what a checkpoint names on the hub, such as "google/paligemma-3b-pt-224=/models/paligemma"."""

    torch_threads: Threads | None = None
    """Threads of PyTorch on the CPU; by default one per core that this process may use."""

    action_names: str = ""
    """What the numbers of an action are, such as "shoulder.pos elbow.pos"; by default as the data set names them."""

    state_names: str = ""
    """What the numbers of the robot's state are, in the same form."""

    control_hz: Hertz | None = None
    """Rate of the policy's actions [1/s]; by default that of its data set."""

    execution: Execution | None = None
    """How chunks are executed where a client does not say; by default as LeRobot executes the checkpoint."""

    ignore_fields: str = ""
    """Fields of config.json that this LeRobot does not know and that may be left out, such as "new_field"."""

    antialias: bool = False
    """Resize images with antialiasing, which LeRobot's own server does not: for scenes, whose images alias."""
