"""ServerConfig: every setting of a server, from the environment (`VLA_*`) and from flags, declared once."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

import pydantic

from vla_server_base.errors import VLAError


class ConfigError(VLAError):
    """A setting that cannot be; the message names the variable and what it takes."""

    code = "config"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """How one server runs. Each field is also an environment variable: `port` is `VLA_PORT`."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""

    port: int = 8002
    """Port to listen on; 0 takes a free one."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where the policy runs; auto takes an accelerator where there is one."""

    cache_dir: Path = Path.home() / ".cache" / "vla-servers"
    """Where converted checkpoints and compiled programs stay between starts."""

    renderer: Literal["auto", "egl", "osmesa", "raycast"] = "auto"
    """What draws scenes; auto takes the first that works, in this order."""

    scene_workers: int = 2
    """Processes that compile and render scenes."""

    scene_timeout_s: float = 8.0
    """A scene that takes longer is refused and its worker ended."""

    scene_memory_mb: int = 4096
    """Address space that a scene may take beyond what its worker starts with."""

    scene_worker_max_scenes: int = 300
    """Scenes that a worker compiles before it is replaced."""

    scene_worker_max_jobs: int = 20_000
    """Pictures and steps of episodes that a worker answers before it is replaced."""

    scene_shadows: bool = False
    """Draw shadows."""

    scene_reflections: bool = False
    """Draw reflections."""

    scene_multisampling: int = 0
    """Samples per pixel; 0 is off."""

    asset_store_mb: int = 256
    """Memory for files that were put ahead of the scenes that name them."""

    scene_store_mb: int = 256
    """Memory for scenes that may be named by their scene_id."""

    max_body_mb: int = 64
    """Largest request body."""

    max_image_pixels: int = 4096 * 4096
    """Largest encoded picture, in pixels after decoding."""

    max_samples: int = 64
    """Largest num_samples of one request."""

    max_queue: int = 64
    """Requests that may wait for the device; more are refused with 503."""

    max_episodes: int = 16
    """Episodes that may run at once; more are refused with 503."""

    max_sessions: int = 256
    """Sessions that may be held at once; more are refused with 503."""

    max_connections: int = 256
    """WebSocket connections that may be open at once; more are closed with 1013."""

    connection_idle_s: float = 3600.0
    """A WebSocket connection on which nothing is said for so long is closed with 1001."""

    session_idle_s: float = 600.0
    """A session that is not used for so long is forgotten."""

    session_reset_on_new_task: bool = True
    """Whether a new instruction, or goal picture, begins a new episode in its session."""

    session_token_s: float = 3600.0
    """For how long a session token resumes its session."""

    zmq_port: int = 0
    """Port for GR00T's clients (ZeroMQ, the extra zmq); 0 is off."""

    lerobot_port: int = 0
    """Port of 127.0.0.1 for LeRobot's clients (gRPC, the extra lerobot); 0 is off."""

    observation_keys: str = ""
    """What a lab's clients call pictures, proprio and instruction, such as "primary=images.top wrist=cam_left"."""

    default_instruction: str = ""
    """What a client asks for whose messages say no instruction; empty refuses them."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much the server's own log says."""


Config = TypeVar("Config")


def config_from_environment(kind: type[Config], prefix: str, environment: Mapping[str, str] = os.environ) -> Config:
    """Read a config dataclass from `PREFIX_FIELD` variables; fields without one keep their default.

    Raises:
        ConfigError: naming the variable, its value, and what it takes.
    """
    names = {f"{prefix}_{field.name}".upper(): field.name for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    values = {field: environment[name] for name, field in names.items() if name in environment}
    try:
        return pydantic.TypeAdapter(kind).validate_python(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        variable = f"{prefix}_{first['loc'][0]}".upper()
        raise ConfigError(f"{variable}='{first['input']}' cannot be used: {first['msg']}") from error
