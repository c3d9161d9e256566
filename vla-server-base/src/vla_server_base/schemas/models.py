"""What /models takes and answers."""

from typing import Annotated, Literal

from pydantic import Field

from vla_server_base.models.held_model import HeldModel, HeldState, LoadOrder
from vla_server_base.models.models import Models
from vla_server_base.models.shadow import Shadow
from vla_server_base.schemas.base import Body, Reply


class LoadModelRequest(Body):
    """A checkpoint to load beside the model that serves."""

    model: Annotated[str, Field(min_length=1, max_length=1000)]
    """The checkpoint, as the service's own setting takes it: a folder, hf://, bundled://."""
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = None
    """What to call it; by default as the checkpoint."""
    mode: Literal["serve", "shadow", "hold"] = "serve"
    """Whether it takes new sessions once it is warm, predicts beside the one that serves, or waits."""
    keep: bool = False
    """Whether it stays loaded until it is deleted, also when it no longer serves."""
    allow_different_contract: bool = False
    """Whether it may take or give something else than the model that serves."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Of a shadow: which share of the answered requests it predicts too."""
    threshold: float = Field(default=0.01, ge=0)
    """Of a shadow: the difference, in the actions' units, over which a request is counted."""

    def to_core(self) -> LoadOrder:
        """Return the order to load it."""
        return LoadOrder(
            checkpoint=self.model,
            id=self.id,
            mode=self.mode,
            keeps=self.keep,
            allows_different_contract=self.allow_different_contract,
            share=self.share,
            threshold=self.threshold,
        )


class ServeModelRequest(Body):
    """How a held model takes over."""

    allow_different_contract: bool = False
    """Whether it may take or give something else than the model that serves."""


class DifferenceReply(Reply):
    """How far a shadow is from the answers in one number of an action, in its unit."""

    mean: float
    max: float


class ShadowStepReply(Reply):
    """One request that both models have answered."""

    session: str
    """The session's id; "-" for a request without a session."""
    step: int
    seed: int
    max_difference: float


class ShadowReply(Reply):
    """How a shadow's chunks differ from the answers."""

    num_compared: int
    num_dropped: int
    """Copies that were dropped: the device was busy."""
    num_failed: int
    last_failure: str | None
    threshold: float
    share_over_threshold: float | None
    """The share of compared requests with a difference over the threshold; null before the first."""
    differences: dict[str, DifferenceReply]
    """By the names of an action's numbers, over all rows of the chunks."""
    last: list[ShadowStepReply]
    """The last compared requests, the oldest first."""


class ModelReply(Reply):
    """One model that is held."""

    id: str
    checkpoint: str
    """As it was given."""
    revision: str | None
    weights: Literal["pretrained", "random", "none"] | None
    """Null until it is loaded."""
    weights_hash: str | None
    """The hash of its parameters, where the policy knows it."""
    state: HeldState
    reason: str | None
    """Why it is broken, is not loaded yet, or did not begin to serve."""
    mode: Literal["serve", "shadow", "hold"]
    keep: bool
    sessions: int
    since: float
    """When it began to load: seconds since 1970."""
    memory_mb: float | None
    """By how much the process grew while it was loaded; null where that is not known."""
    shadow: ShadowReply | None


class ModelsReply(Reply):
    """The models that are held, the first loaded first."""

    models: list[ModelReply]
    serving: str
    """The id of the model that takes new sessions."""


def model_reply(models: Models, held: HeldModel) -> ModelReply:
    """Return what a reply says of a model."""
    engine = held.engine
    spec = engine.spec if engine is not None and engine.has_spec else None
    num_sessions = 0 if engine is None else models.sessions.num_on(engine)
    return ModelReply(
        id=held.id,
        checkpoint=held.checkpoint,
        revision=spec.revision if spec else None,
        weights=spec.weights if spec else None,
        weights_hash=held.weights_hash(),
        state=held.state(models.engines.serving, num_sessions),
        reason=held.reason or (engine.status.reason if engine else None),
        mode=held.mode,
        keep=held.keeps,
        sessions=num_sessions,
        since=round(held.since, 3),
        memory_mb=held.memory_mb,
        shadow=None if held.shadow is None else _shadow_reply(held.shadow),
    )


def _shadow_reply(shadow: Shadow) -> ShadowReply:
    compared = shadow.num_compared
    return ShadowReply(
        num_compared=compared,
        num_dropped=shadow.num_dropped,
        num_failed=shadow.num_failed,
        last_failure=shadow.last_failure,
        threshold=shadow.threshold,
        share_over_threshold=shadow.num_over_threshold / compared if compared else None,
        differences={
            name: DifferenceReply(mean=mean, max=largest) for name, (mean, largest) in shadow.differences().items()
        },
        last=[
            ShadowStepReply(session=each.session, step=each.step, seed=each.seed, max_difference=each.max_difference)
            for each in shadow.last
        ],
    )
