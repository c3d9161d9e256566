"""What an episode needs: a policy to ask, and a world to act in."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from vla_server_base.contract import PolicySpec, PreviousChunk, Task, Window
from vla_server_base.scenes.messages import RolloutReply, RolloutRequest, Scene


@runtime_checkable
class EpisodePolicy(Protocol):
    """Windows of observations in, un-normalized chunks out; policies.py has the implementations."""

    @property
    def spec(self) -> PolicySpec:
        """What it takes and gives."""
        ...

    @property
    def window(self) -> int:
        """How many observations it attends to."""
        ...

    @property
    def cameras(self) -> tuple[str, ...]:
        """Its cameras, the required one first."""
        ...

    async def predict(self, window: Window, task: Task, seed: int, step: int) -> Float[np.ndarray, "horizon 7"]:
        """Return the next actions: dx, dy, dz [m], droll, dpitch, dyaw [rad], gripper (1 open, 0 closed)."""
        ...


@dataclass(frozen=True, kw_only=True)
class GuidedChunk:
    """A chunk for the arm, and the same as the policy returned it, before un-normalization."""

    actions: Float[np.ndarray, "horizon 7"]
    rows: Float[np.ndarray, "horizon action_dim"]


@runtime_checkable
class GuidedPolicy(Protocol):
    """An EpisodePolicy whose chunks may continue the last one (real-time chunking)."""

    async def predict_guided(
        self, window: Window, task: Task, seed: int, step: int, previous: PreviousChunk | None
    ) -> GuidedChunk:
        """Return the next actions, guided towards the rest of the last chunk's `rows`, if there is one."""
        ...


@runtime_checkable
class World(Protocol):
    """Simulates scenes: a ScenePool."""

    async def roll_out(self, scene: Scene, request: RolloutRequest) -> RolloutReply:
        """Go on with a scene's simulation."""
        ...
