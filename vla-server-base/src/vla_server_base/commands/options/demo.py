"""Flags of `demo`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Generic

import tyro

from vla_server_base.commands.flags import SCENE_SETTINGS, Config, flags_of
from vla_server_base.config import Count, ServerConfig
from vla_server_base.schemas.ranges import Seed


@dataclass(frozen=True, kw_only=True)
class Demo(Generic[Config]):
    """Start a server, let its policy follow an instruction in a scene, and keep serving in a terminal."""

    instruction: Annotated[str, tyro.conf.Positional] = "pick up the red cube"
    """What the robot is to do."""

    scene: str = "panda/tabletop"
    """A bundled scene as robot/scene, or the path of an MJCF file."""

    seed: Seed = 0
    """The noise; the same seed gives the same episode."""

    max_steps: Count = 60
    """Actions after which the episode ends, if the task is not done before."""

    out: Path = Path("out")
    """Where the animation goes."""

    server: Annotated[
        ServerConfig,
        flags_of(ServerConfig, "VLA", "host", "port", "device", "cache_dir", *SCENE_SETTINGS, VLA_PORT="0"),
    ]
    config: Config
