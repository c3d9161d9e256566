"""ServerConfig: every setting of a server, from the environment (`VLA_*`) and from flags, declared once."""

import dataclasses
import difflib
import functools
import logging
import os
import re
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_type_hints

import pydantic
from pydantic import Field

from vla_server_base.errors import VLAError

logger = logging.getLogger(__name__)

Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Megabytes = Annotated[int, Field(ge=1, le=2**24)]
Seconds = Annotated[float, Field(gt=0, le=365 * 24 * 3600)]
"""Up to a year: longer ones are more than timers take."""
Folder = Annotated[Path, pydantic.AfterValidator(Path.expanduser)]

# What Kubernetes sets in every container for each service (https://kubernetes.io/docs/concepts/services-networking/service):
# VLA_PORT=tcp://10.0.0.1:8002, VLA_SERVICE_HOST and more for one that is called vla.
_ADDRESS_OF_A_SERVICE = re.compile(r"(tcp|udp|sctp)://")
_SET_FOR_A_SERVICE = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$")


class ConfigError(VLAError):
    """A setting that cannot be; the message names the variable and what it takes."""

    code = "config"


class Settings:
    """A frozen dataclass whose fields are checked against their annotations, however it is made.

    Raises:
        ConfigError: naming the field, its value, and what it takes.
    """

    not_settings: ClassVar[Collection[str]] = ()
    """Variables with the same prefix that others read."""

    def __post_init__(self) -> None:
        for name in _checks(type(self)):
            object.__setattr__(self, name, _checked(type(self), name, getattr(self, name), name))


def _cache_dir() -> Path:
    try:
        return Path.home() / ".cache" / "vla-servers"
    except RuntimeError:  # a user without a home, as in many containers
        return Path(tempfile.gettempdir()) / "vla-servers"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerConfig(Settings):
    """How one server runs. Each field is also an environment variable: `port` is `VLA_PORT`."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""

    port: Port = 8002
    """Port to listen on; 0 takes a free one."""

    allowed_hosts: str = ""
    """Names that the server goes by, as "robots.lab.example .lab.example"; addresses and local names always do."""

    allowed_origins: str = ""
    """Origins whose web pages may ask this server, such as "https://robots.lab.example:8443"; its own always may."""

    shutdown_grace_s: Annotated[float, Field(ge=0, le=24 * 3600)] = 5.0
    """For how long what runs is finished after SIGTERM, or Ctrl-C, before it is cut off."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where the policy runs; auto takes an accelerator where there is one."""

    cache_dir: Folder = dataclasses.field(default_factory=_cache_dir)
    """Where converted checkpoints and compiled programs stay between starts."""

    load_retry_s: Annotated[float, Field(ge=0, le=365 * 24 * 3600)] = 600.0
    """For how long a hub that does not answer is asked again, ever more seldom; 0 asks once."""

    on_load_failure: Literal["exit", "stay"] = "exit"
    """Where the model cannot be loaded: exit ends the process with code 3; stay answers why, and /live with 503."""

    renderer: Literal["auto", "egl", "osmesa", "raycast"] = "auto"
    """What draws scenes; auto takes the first that works, in this order."""

    scene_workers: Annotated[int, Field(ge=1, le=256)] = 2
    """Processes that compile and render scenes."""

    scene_timeout_s: Seconds = 8.0
    """A scene that takes longer is refused and its worker ended."""

    scene_processes: Annotated[int, Field(ge=1, le=1024)] = 8
    """Worker processes at most: those that are idle keep each client's own scenes compiled, apart from the others'."""

    scene_memory_mb: Megabytes = 4096
    """Memory that a scene may hold beyond what its worker starts with, less where the machine has little."""

    scene_confinement: Literal["best_effort", "required"] = "best_effort"
    """Whether scenes are taken where the kernel cannot confine what draws them; `/info` says what it can."""

    scene_worker_max_scenes: Count = 300
    """Scenes that a worker compiles before it is replaced."""

    scene_worker_max_jobs: Count = 20_000
    """Images and steps of episodes that a worker answers before it is replaced."""

    scene_geom_groups: Annotated[str, Field(pattern="^([0-5]( [0-5])*)?$")] = ""
    """Groups of geoms that are drawn, such as "1 2", where a request does not say; empty takes each scene's own."""

    scene_shadows: bool = False
    """Draw shadows."""

    scene_reflections: bool = False
    """Draw reflections."""

    scene_multisampling: Annotated[int, Field(ge=0, le=64)] = 0
    """Samples per pixel; 0 is off."""

    asset_store_mb: Megabytes = 256
    """Memory for files that were put ahead of the scenes that name them."""

    scene_store_mb: Megabytes = 256
    """Memory for scenes that may be named by their scene_id."""

    max_body_mb: Megabytes = 64
    """Largest request body."""

    max_bodies_mb: Annotated[int, Field(ge=0, le=2**24)] = 0
    """Memory for bodies and WebSocket messages that are being received; 0 is four times the largest body."""

    body_timeout_s: Seconds = 20.0
    """A body of which nothing comes for so long, or less than 16 kB/s beyond that, is refused with 408."""

    head_timeout_s: Seconds = 10.0
    """A connection on which no request has begun, or its headers have not come, within so long is closed."""

    reader_timeout_s: Seconds = 15.0
    """A client that does not read its answer, or event stream, for so long, or less than 16 kB/s, is cut off."""

    max_image_pixels: Count = 4096 * 4096
    """Largest encoded image, in pixels after decoding."""

    max_samples: Count = 64
    """Largest num_samples of one request."""

    max_queue: Count = 64
    """Requests that may wait for the device; more are refused with 503, those of who has most waiting first."""

    max_batch: Annotated[int, Field(ge=0, le=4096)] = 0
    """Requests that run together on the device; 0 takes 64 on an accelerator, and 1 on a CPU."""

    max_episodes: Count = 16
    """Episodes that may run at once; more are refused with 503."""

    episode_worker_s: Seconds = 600.0
    """Time of scene workers that one episode may take, to compile, simulate and draw."""

    max_sessions: Count = 256
    """Sessions that may be held at once; for one more, an idle one is forgotten of the client that has most."""

    max_connections: Count = 256
    """WebSockets that may be open at once; for one more, one that was quiet for a minute is closed, or 503 says no."""

    max_sockets: Annotated[int, Field(ge=8, lt=2**31)] = 4096
    """Connections that may be open at once; for one more, the idlest is closed. Fewer where `ulimit -n` is low."""

    max_sockets_per_client: Annotated[int, Field(ge=8, lt=2**31)] = 1024
    """The same for one client address, which gets three quarters of all at most."""

    connection_idle_s: Seconds = 3600.0
    """A WebSocket connection on which nothing is said for so long is closed with 1001."""

    websocket_ping_s: Annotated[float, Field(ge=0, le=365 * 24 * 3600)] = 0.0
    """How often a WebSocket's client is pinged, which has to answer within as long; 0 is never."""

    session_mb: Megabytes = 1024
    """Memory for the images of all sessions; beyond it, as beyond max_sessions, idle ones are forgotten."""

    session_idle_s: Seconds = 600.0
    """A session that is not used for so long is forgotten."""

    session_reset_on_new_task: bool = True
    """Whether a new instruction, or goal image, begins a new episode in its session."""

    session_token_s: Seconds = 3600.0
    """For how long a session token resumes its session."""

    zmq_port: Port = 0
    """Port for GR00T's clients (ZeroMQ, the extra zmq); 0 is off."""

    lerobot_port: Port = 0
    """Port of 127.0.0.1 for LeRobot's clients (gRPC, the extra lerobot); 0 is off."""

    observation_keys: str = ""
    """What a lab's clients call each camera, proprio and instruction, such as "primary=images.top wrist=cam_left"."""

    default_instruction: str = ""
    """What is done where a request says no instruction; empty refuses it."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much the server's own log says."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_together("max_body_mb", "max_bodies_mb", "the largest body would never get in")
        self._check_together("max_connections", "max_sockets", "WebSockets are connections too")

    def _check_together(self, smaller: str, larger: str, reason: str) -> None:
        """Refuse two settings that contradict each other; 0 leaves the larger one to the server."""
        low, high = getattr(self, smaller), getattr(self, larger)
        if high and low > high:
            raise ConfigError(f"VLA_{smaller.upper()}={low} is over VLA_{larger.upper()}={high}: {reason}")


Config = TypeVar("Config", bound=Settings)


def config_from_environment(kind: type[Config], prefix: str, environment: Mapping[str, str] = os.environ) -> Config:
    """Read settings from `PREFIX_FIELD` variables; those that are not set, or empty, keep their default.

    A variable with this prefix that is no setting is warned of, with the setting of the nearest name. What Kubernetes
    sets for a service of that name is passed over.

    Raises:
        ConfigError: naming the variable, its value, and what it takes.
    """
    fields = {f"{prefix}_{field}".upper(): field for field in _checks(kind)}
    given = {name: value for name, value in environment.items() if name.startswith(f"{prefix}_") and value}
    values = {}
    for name, value in given.items():
        if _ADDRESS_OF_A_SERVICE.match(value):
            if name in fields:
                _warn(f"{name}={value} is the address of a Kubernetes service and no setting: the default counts")
        elif name in fields:
            values[fields[name]] = _checked(kind, fields[name], value, name)
        elif name not in kind.not_settings and not _SET_FOR_A_SERVICE.search(name):
            _warn(f"{name} is not a setting{_nearest(name, fields, prefix)}")
    return kind(**values)


@functools.cache
def _warn(sentence: str) -> None:
    """Warn once, however often the environment is read."""
    logger.warning(sentence)


def _nearest(name: str, known: Collection[str], prefix: str) -> str:
    endings = [each.removeprefix(prefix) for each in known]
    matches = difflib.get_close_matches(name.removeprefix(prefix), endings, n=1)
    return f": did you mean {prefix}{matches[0]}?" if matches else ", and does nothing"


@functools.cache
def _checks(kind: type[Settings]) -> dict[str, Callable[[Any], Any]]:
    """Return what checks each field."""
    hints = get_type_hints(kind, include_extras=True)
    config = pydantic.ConfigDict(allow_inf_nan=False)
    names = [field.name for field in dataclasses.fields(kind)]  # pyright: ignore[reportArgumentType]
    return {name: pydantic.TypeAdapter(hints[name], config=config).validate_python for name in names}


def _checked(kind: type[Settings], field: str, value: Any, called: str) -> Any:
    try:
        return _checks(kind)[field](value)
    except pydantic.ValidationError as error:
        shown = f"'{value}'" if isinstance(value, str) else value
        raise ConfigError(f"{called}={shown} cannot be used: {error.errors()[0]['msg']}") from error
