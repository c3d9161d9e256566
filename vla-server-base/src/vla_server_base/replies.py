"""What the server answers: the bodies of its replies."""

from typing import Literal

import pydantic

from vla_server_base.contract import PolicySpec


class Reply(pydantic.BaseModel):
    """A reply's body."""

    model_config = pydantic.ConfigDict(use_attribute_docstrings=True)


class Timing(Reply):
    """Milliseconds spent on a request."""

    compile: float
    """Compiling the scene; 0 where it was still held."""
    render: float
    """Rendering the scene."""
    queue: float
    """Waiting for the device."""
    infer: float
    """On the device, with all that ran in the same batch."""
    total: float
    """From the request's head to the reply."""


class PredictReply(Reply):
    """The action to execute, the chunk it comes from, and all that is needed to get it again."""

    action: list[float]
    """The chunk's first action in the asked-for format."""
    actions: list[list[float]]
    """The whole chunk, un-normalized: `horizon` rows of `action_dim` numbers."""
    action_format: str
    action_names: list[str]
    """What each number of `action` is."""
    dataset: str | None
    """Whose statistics un-normalized it."""
    seed: int
    model: str
    weights: Literal["pretrained", "random", "none"]
    """Whether the answer means anything: random weights only have the right shapes."""
    cameras: dict[str, str]
    """Which of the scene's cameras each of the policy's cameras was; empty where pictures were sent."""
    timing_ms: Timing
    request_id: str
    samples: list[list[list[float]]] | None = None
    """All chunks, un-normalized, where `num_samples` is more than 1; the first is `actions`."""
    images: dict[str, str] | None = None
    """Base64 PNG by the policy's camera names, where `return_image` asked for them."""


class HealthReply(Reply):
    """Whether the policy answers."""

    status: Literal["healthy", "loading", "broken"]
    model: str
    model_status: Literal["loaded", "loading", "broken"]
    reason: str | None = None
    """Why it does not answer (503)."""


class LiveReply(Reply):
    """The process runs and its event loop turns."""

    status: Literal["live"] = "live"


class Limits(Reply):
    """What is refused beyond, as configured."""

    max_body_mb: int
    max_image_pixels: int
    max_samples: int
    max_queue: int
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
    """What draws scenes; null where no renderer works."""
    renderers_tried: dict[str, str]
    """What became of each renderer that was tried."""
    limits: Limits
    versions: dict[str, str]


class ScenesReply(Reply):
    """The scenes that ship with the server, by robot."""

    robots: dict[str, list[str]]


class ErrorBody(Reply):
    """What went wrong: a code for programs, a sentence for people, and what to do instead."""

    code: str
    message: str
    hint: str | None


class ErrorReply(Reply):
    """What every error is answered with."""

    error: ErrorBody
    request_id: str
