"""What /predict answers."""

from typing import Literal

from vla_server_base.schemas.base import Reply
from vla_server_base.schemas.motion import MotionReply
from vla_server_base.schemas.session_reply import SessionReply


class Timing(Reply):
    """Milliseconds spent on a request."""

    compile: float
    """Compiling the scene; 0 if it was still cached."""
    render: float
    """Rendering the scene."""
    preview: float
    """Rolling the chunk out in the scene, for joint positions, `preview` and `guard`."""
    queue: float
    """Waiting for the device."""
    infer: float
    """On the device, with all that ran in the same batch."""
    write: float
    """Making the reply, with the images that it carries."""
    total: float
    """From the request's head to the reply."""


class PredictReply(Reply):
    """The action to execute, the chunk it comes from, and all that is needed to get it again."""

    action: list[float]
    """The chunk's first action in the asked-for format."""
    actions: list[list[float]]
    """The whole chunk, un-normalized: `horizon` rows of `action_dim` numbers; in a session what is left of it."""
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
    """Which of the scene's cameras each of the policy's cameras was; empty where images were sent."""
    timing_ms: Timing
    request_id: str
    geom_groups: list[int] | None = None
    """The groups of geoms that were drawn; left out where images were sent."""
    scene_id: str | None = None
    """Names the scene in later requests, in place of the scene; left out where images were sent."""
    scene_memory_mb: float | None = None
    """What holding the scene takes: the compiled model and one simulation; left out where images were sent."""
    notes: list[str] | None = None
    """What was done that the request does not say, or says otherwise: a default instruction, a dataset's other name."""
    samples: list[list[list[float]]] | None = None
    """All chunks, un-normalized, where `num_samples` is more than 1; the first is `actions`."""
    images: dict[str, str] | None = None
    """Base64 PNG by the policy's camera names, where `return_image` asked for them."""
    unknown_words: list[str] | None = None
    """Words of the instruction that the policy's vocabulary does not cover: to it they are all the same."""
    session: SessionReply | None = None
    """Where the session is, for a step of one."""
    body_names: list[str] | None = None
    """The scene's bodies, in MuJoCo's order, where `poses` asked for poses."""
    pose_bodies: list[int] | None = None
    """The bodies that may move, whose poses `preview` has: indices into `body_names`; where `poses` asked for them."""
    preview: list[MotionReply] | None = None
    """What each action of the chunk is predicted to do, where `preview`, `poses` or `guard` asked for it."""
