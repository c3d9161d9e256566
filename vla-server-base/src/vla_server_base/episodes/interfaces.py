"""What an episode needs: a policy to ask, and a world to act in."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from vla_server_base.contract import Task, Window
from vla_server_base.scenes.messages import RolloutReply, RolloutRequest, Scene


@runtime_checkable
class EpisodePolicy(Protocol):
    """Windows of observations in, un-normalized chunks out; policies.py has the implementations."""

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


@runtime_checkable
class World(Protocol):
    """Simulates scenes: a ScenePool."""

    async def roll_out(self, scene: Scene, request: RolloutRequest) -> RolloutReply:
        """Go on with a scene's simulation."""
        ...
