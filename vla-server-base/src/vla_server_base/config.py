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

    not_settings: ClassVar[Collection[str]] = ("VLA_API_KEY", "VLA_CA_FILE", "VLA_CLIENT_CERT")  # vla_client's
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
    """Port to listen on; 0 for any free port."""

    allowed_hosts: str = ""
    """Host names of this server, such as "robots.lab.example .lab.example"; addresses and local names always work."""

    allowed_origins: str = ""
    """Other origins whose web pages may send requests, such as "https://robots.lab.example:8443"."""

    keys_file: str = ""
    """File of API keys, which `keys new NAME` writes; each request then needs one. It is read again when it changes."""

    api_keys: str = dataclasses.field(default="", repr=False)
    """API keys as NAME=KEY or NAME:CLASS:RATE=sha256:HASH, for containers; not a flag, since others see those."""

    allow_anyone: bool = False
    """Whether to listen beyond this machine without API keys, such as behind a proxy that checks who asks."""

    tls_cert: str = ""
    """Certificate with its chain, in PEM, for HTTP and WebSockets; it is read again when it is renewed."""

    tls_key: str = ""
    """Private key of the certificate, in PEM, without a password."""

    tls_client_ca: str = ""
    """CA whose certificates clients must have, in PEM; empty asks for none."""

    shutdown_grace_s: Annotated[float, Field(ge=0, le=24 * 3600)] = 5.0
    """How long running requests may continue after SIGTERM or Ctrl-C."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where the policy runs; auto takes an accelerator if there is one."""

    cache_dir: Folder = dataclasses.field(default_factory=_cache_dir)
    """Folder for converted checkpoints and compiled programs."""

    load_retry_s: Annotated[float, Field(ge=0, le=365 * 24 * 3600)] = 600.0
    """How long to retry a hub that does not answer, with growing pauses; 0 tries once."""

    on_load_failure: Literal["exit", "stay"] = "exit"
    """If the model cannot be loaded: exit ends the process with code 3; stay keeps it running, with /live at 503."""

    renderer: Literal["auto", "egl", "osmesa", "raycast"] = "auto"
    """Renderer for scenes; auto takes the first one that works, in this order."""

    scene_workers: Annotated[int, Field(ge=1, le=256)] = 2
    """Worker processes that compile and render scenes at the same time."""

    scene_timeout_s: Seconds = 8.0
    """Time limit for a scene; a slower one is refused and its worker ended."""

    scene_processes: Annotated[int, Field(ge=1, le=1024)] = 8
    """Largest number of worker processes; idle ones keep each client's scenes compiled, apart from other clients'."""

    scene_memory_mb: Megabytes = 4096
    """Memory for a scene beyond what its worker starts with; less on a machine with little memory."""

    scene_confinement: Literal["best_effort", "required"] = "best_effort"
    """Whether to accept scenes if the kernel cannot confine the workers; `/info` says what it confines."""

    scene_worker_max_scenes: Count = 300
    """Scenes that a worker compiles before it is replaced."""

    scene_worker_max_jobs: Count = 20_000
    """Images and episode steps that a worker computes before it is replaced."""

    scene_geom_groups: Annotated[str, Field(pattern="^([0-5]( [0-5])*)?$")] = ""
    """Geom groups to draw if a request has none, such as "1 2"; empty for the default of each scene."""

    scene_cameras: str = ""
    """Cameras of scenes for a policy whose cameras have other names, such as "top=primary left_wrist=wrist"."""

    scene_shadows: bool = False
    """Draw shadows."""

    scene_reflections: bool = False
    """Draw reflections."""

    scene_multisampling: Annotated[int, Field(ge=0, le=64)] = 0
    """Samples per pixel; 0 is off."""

    asset_store_mb: Megabytes = 256
    """Memory for uploaded assets."""

    scene_store_mb: Megabytes = 256
    """Memory for scenes that requests name by scene_id."""

    geometry_store_mb: Megabytes = 128
    """Memory for the geometry of scenes, which POST /scenes/geometry answers again without a worker."""

    max_body_mb: Megabytes = 64
    """Largest request body."""

    max_bodies_mb: Annotated[int, Field(ge=0, le=2**24)] = 0
    """Memory for all bodies and WebSocket messages being received; 0 is four times the largest body."""

    body_timeout_s: Seconds = 20.0
    """A body is refused with 408 after this long without a byte, or below 16 kB/s after this long."""

    head_timeout_s: Seconds = 10.0
    """A connection is closed if the headers of a request do not arrive within this time."""

    reader_timeout_s: Seconds = 15.0
    """A client is disconnected if it reads nothing of its reply for this long, or less than 16 kB/s."""

    max_image_pixels: Count = 4096 * 4096
    """Largest encoded image, in pixels after decoding."""

    max_samples: Count = 64
    """Largest num_samples of a request."""

    max_queue: Count = 64
    """Requests that may wait for the device; beyond it, the least urgent, of the client with the most, gets 503."""

    max_queue_per_client: Count = 48
    """The same for one client."""

    max_rate: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Largest number of requests a second of one client; beyond it, 429. 0 sets no limit; a key's rate wins."""

    max_batch: Annotated[int, Field(ge=0, le=4096)] = 0
    """Largest batch on the device; 0 is 64 on an accelerator and 1 on a CPU."""

    max_episodes: Count = 16
    """Episodes that may run at the same time; more are refused with 503."""

    episode_worker_s: Seconds = 600.0
    """Time of scene workers for one episode: compiling, simulating and rendering."""

    episode_keep_s: Seconds = 600.0
    """How long the events of an episode of POST /episodes are kept after its end."""

    episodes_mb: Megabytes = 256
    """Memory for these events; beyond it, the episodes that ended first are forgotten, then the largest is ended."""

    max_sessions: Count = 256
    """Largest number of sessions; beyond it, an idle one of the client with the most sessions is dropped."""

    max_connections: Count = 256
    """Largest number of open WebSockets; beyond it, one silent for a minute is closed, or the new one gets 503."""

    max_watchers: Count = 32
    """Largest number of pages and programs that watch sessions at the same time; more are refused with 503."""

    max_sockets: Annotated[int, Field(ge=8, lt=2**31)] = 4096
    """Largest number of open connections; beyond it, the idlest is closed. Lower if `ulimit -n` is low."""

    max_sockets_per_client: Annotated[int, Field(ge=8, lt=2**31)] = 1024
    """The same for one client address; at most three quarters of all."""

    connection_idle_s: Seconds = 3600.0
    """A WebSocket is closed with 1001 after this long without a message."""

    websocket_ping_s: Annotated[float, Field(ge=0, le=365 * 24 * 3600)] = 0.0
    """Interval of pings to WebSocket clients, and the time to answer one; 0 sends none."""

    session_mb: Megabytes = 1024
    """Memory for the images of all sessions; beyond it, idle sessions are dropped."""

    session_idle_s: Seconds = 600.0
    """A session is dropped after this long without a request."""

    session_reset_on_new_task: bool = True
    """Whether a new instruction or goal image starts a new episode in its session."""

    session_token_s: Seconds = 3600.0
    """How long a session token can resume its session."""

    zmq_port: Port = 0
    """Port for GR00T's clients (ZeroMQ, the extra zmq); 0 is off."""

    zmq_host: str = ""
    """Address of GR00T's port, which has no TLS; empty for that of VLA_HOST, with TLS only on this machine."""

    lerobot_port: Port = 0
    """Port on 127.0.0.1 for LeRobot's clients (gRPC, the extra lerobot); 0 is off."""

    lerobot_key: str = ""
    """Name of the API key that LeRobot's own clients count as, since they cannot send one; empty refuses them."""

    observation_keys: str = ""
    """Names in a lab's messages for cameras, proprio and instruction, such as "primary=images.top wrist=cam_left"."""

    models: Literal["off", "on"] = "off"
    """Whether requests may load, serve and unload models while the server runs (`/models`)."""

    model_sources: str = ""
    """Checkpoints that requests may load, such as "bundled://* hf://my-lab/* /checkpoints/*"; see docs/models.md."""

    keep_models_s: Annotated[float, Field(ge=0, le=365 * 24 * 3600)] = 3600.0
    """How long a model that no longer serves is kept for a roll back; with sessions it stays longer."""

    default_instruction: str = ""
    """Instruction for requests without one; if empty, such requests are refused."""

    console: Literal["on", "off"] = "on"
    """Whether people may look: off leaves out the page at `/`, and the events of sessions."""

    record: str = ""
    """Folder in which sessions are recorded (MCAP, the extra record); empty is off."""

    record_sessions: str = "*"
    """Sessions to record, such as "arm-* key:lab/*": patterns of their ids, or of client and id."""

    record_mb: Megabytes = 4096
    """Size of all recordings in the folder; beyond it, the oldest files are deleted."""

    record_file_mb: Megabytes = 64
    """Size at which a file is ended and the next one begins."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Level of the server's own log."""

    log_format: Literal["text", "json"] = "text"
    """Lines of the log as text, or each as a JSON object."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_together("max_body_mb", "max_bodies_mb", "a body of the largest size would never fit")
        self._check_together("record_file_mb", "record_mb", "a file would never fit")
        self._check_together("max_connections", "max_sockets", "WebSockets are connections too")

    def _check_together(self, smaller: str, larger: str, reason: str) -> None:
        """Refuse two settings that contradict each other; 0 leaves the larger one to the server."""
        low, high = getattr(self, smaller), getattr(self, larger)
        if high and low > high:
            small, large = f"VLA_{smaller.upper()}", f"VLA_{larger.upper()}"
            raise ConfigError(f"{small}={low} is over {large}={high}: {reason}", hint=f"raise {large} or lower {small}")


class PolicySettings(Settings):
    """The settings of one policy's service: which checkpoint it serves, and what else there is to choose.

    `dataset` is the one whose statistics un-normalize actions, for policies that have several.
    """

    model: str
    dataset: str | None = None


Config = TypeVar("Config", bound=Settings)


def config_from_environment(kind: type[Config], prefix: str, environment: Mapping[str, str] = os.environ) -> Config:
    """Read settings from `PREFIX_FIELD` variables; those that are not set, or empty, keep their default.

    A variable with this prefix that is not a setting causes a warning with the nearest name. Variables that Kubernetes
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
                _warn(f"{name}={value} is the address of a Kubernetes service, not a setting: the default applies")
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
        raise ConfigError(
            f"{called}={shown} cannot be used: {error.errors()[0]['msg']}",
            hint="docs/configuration.md lists the settings and their values",
        ) from error
