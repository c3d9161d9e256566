"""Flags of `predict`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Generic

import tyro

from vla_server_base.commands.flags import SCENE_SETTINGS, Config, flags_of
from vla_server_base.config import ServerConfig
from vla_server_base.schemas.ranges import Seed


@dataclass(frozen=True, kw_only=True)
class Predict(Generic[Config]):
    """Ask for one action: of a running server (`--url`), or of one that is started for it."""

    instruction: Annotated[str, tyro.conf.Positional] = "pick up the red cube"
    """What the robot is to do."""

    scene: str | None = None
    """A bundled scene as robot/scene, or the path of an MJCF file; panda/tabletop if no image is given."""

    image: Path | None = None
    """An image of the policy's first camera, instead of a scene."""

    image_wrist: Path | None = None
    """An image of the camera `wrist`."""

    images: tuple[str, ...] = ()
    """Images by the policy's names for its cameras, such as left=left.png top=top.png."""

    cameras: tuple[str, ...] = ()
    """The scene's cameras by the policy's names for what they show, such as left=frontview."""

    seed: Seed | None = None
    """The noise; the same seed gives the same action."""

    out: Path = Path("out")
    """Where the images go that the policy saw."""

    url: str | None = None
    """A running server, such as http://127.0.0.1:8002; by default one is started, to which the settings below apply."""

    server: Annotated[ServerConfig, flags_of(ServerConfig, "VLA", "device", "cache_dir", *SCENE_SETTINGS)]
    config: Config
