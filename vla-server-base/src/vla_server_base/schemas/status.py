"""What the service says of itself."""

from typing import Literal

from vla_server_base.contract import PolicySpec
from vla_server_base.scenes.messages import Confinement
from vla_server_base.schemas.base import Reply


class HealthReply(Reply):
    """Whether the policy answers."""

    status: Literal["healthy", "loading", "broken", "stopping"]
    model: str
    model_status: Literal["loaded", "loading", "broken"]
    reason: str | None = None
    """Why it does not answer (503)."""


class LiveReply(Reply):
    """The process and its event loop run, and its policy is loaded or may still be."""

    status: Literal["live", "broken"]
    reason: str | None = None
    """Why only another start can help (503)."""


class Limits(Reply):
    """What is refused beyond, as configured."""

    max_body_mb: int
    asset_store_mb: int
    scene_store_mb: int
    max_image_pixels: int
    max_samples: int
    max_queue: int
    max_sessions: int
    max_instruction_chars: int | None
    scene_timeout_s: float
    scene_memory_mb: int


class InfoReply(Reply):
    """What is served, on what, and within which limits."""

    model: str
    model_status: Literal["loaded", "loading", "broken"]
    reason: str | None
    """Why the model is not loaded."""
    revision: str | None
    weights: Literal["pretrained", "random", "none"] | None
    policy: PolicySpec | None
    """What the policy takes and gives; null until it is loaded."""
    renderer: str | None
    """The renderer of scenes; null if none works."""
    renderers_tried: dict[str, str]
    """What became of each renderer that was tried."""
    confinement: Confinement | None
    """What the kernel denies to the scene workers; null if no renderer works."""
    recordings: list[str]
    """What `record` of an episode may ask for; `lerobot` takes the extra `datasets`."""
    limits: Limits
    code_sha256: str
    """Of the sources of the packages that answer: the same code has the same hash."""
    versions: dict[str, str]


class ScenesReply(Reply):
    """The scenes that ship with the server, by robot."""

    robots: dict[str, list[str]]


class AssetReply(Reply):
    """A file that is now held."""

    sha256: str
    num_bytes: int
