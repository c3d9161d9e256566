"""One model that a server holds: its engine, and what became of it."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Literal

from vla_server_base.engine.engine import Engine
from vla_server_base.models.shadow import Shadow

Mode = Literal["serve", "shadow", "hold"]
HeldState = Literal["loading", "warming_up", "ready", "serving", "shadow", "draining", "broken"]


@dataclass(frozen=True, kw_only=True)
class LoadOrder:
    """What to load, and what for.

    A model in mode `serve` takes new sessions as soon as it is warm, `hold` waits until it is asked to, and `shadow`
    predicts what the one that serves has answered. `keeps` has it stay loaded until it is deleted.
    """

    checkpoint: str
    id: str | None = None
    mode: Mode = "serve"
    keeps: bool = False
    allows_different_contract: bool = False
    share: float = 1.0
    threshold: float = 0.01


@dataclass(eq=False, kw_only=True)
class HeldModel:
    """A model by its id; `engine` is None once it is unloaded, or was found broken."""

    id: str
    checkpoint: str
    mode: Mode
    engine: Engine | None
    keeps: bool = False
    since: float = field(default_factory=time.time)
    """When it began to load, in seconds since 1970."""
    left_at: float | None = None
    """When it ceased to serve, by the monotonic clock."""
    memory_mb: float | None = None
    """By how much the process grew while it was loaded."""
    reason: str | None = None
    shadow: Shadow | None = None
    loading: "asyncio.Task[None] | None" = None

    @property
    def is_loading(self) -> bool:
        """Whether it is being loaded or warmed up."""
        return self.loading is not None and not self.loading.done()

    def state(self, serving: Engine, num_sessions: int) -> HeldState:
        """Return what the model does now."""
        engine = self.engine
        if engine is None or (engine.status.state == "broken" and not self.is_loading):
            return "broken"
        if engine.status.state == "loading" or self.is_loading:
            return "loading" if not engine.has_spec else "warming_up"
        if engine is serving:
            return "serving"
        if self.mode == "shadow":
            return "shadow"
        return "draining" if num_sessions or engine.num_users else "ready"

    def weights_hash(self) -> str | None:
        """Return the hash of its parameters, where the policy knows it."""
        if self.engine is None or not self.engine.has_spec:
            return None
        return self.engine.spec.details.get("checkpoint_hash")
