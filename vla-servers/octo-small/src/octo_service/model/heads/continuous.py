"""Heads that regress the action chunk directly.

Follows ContinuousActionHead, L1ActionHead and MSEActionHead of octo/model/components/action_heads.py.
"""

import functools
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from octo_service.model.parameters import Parameters
from octo_service.model.tokens import TokenGroup
from octo_service.model.transformer import attention_pool, dense


def pool_readout(parameters: Parameters, readout: TokenGroup, use_map: bool) -> Float[Array, "batch window dim"]:
    """Make one embedding per timestep of a readout's tokens: by attention (`use_map`), or their mean."""
    if use_map:
        return attention_pool(parameters / "map_head", readout.tokens, readout.mask, 1)[:, :, 0]
    return readout.tokens.mean(-2)


@dataclass(frozen=True, kw_only=True)
class ContinuousHead:
    """Regress the chunk, squashed by tanh to ±`max_action`. Fields are the config's."""

    readout_key: str
    use_map: bool = False
    action_horizon: int = 1
    action_dim: int = 7
    max_action: float = 5.0
    loss_type: str = "mse"

    def __call__(self, parameters: Parameters, readout: TokenGroup) -> Float[Array, "batch window horizon action_dim"]:
        """Return the chunk predicted at every timestep of the window."""
        embedding = pool_readout(parameters, readout, self.use_map)
        mean = dense(parameters / "mean_proj", embedding, self.action_horizon * self.action_dim)
        mean = mean.reshape(*mean.shape[:2], self.action_horizon, self.action_dim)
        return jnp.tanh(mean / self.max_action) * self.max_action


# The two take attention pooling unless told otherwise.
l1_head = functools.partial(ContinuousHead, use_map=True, loss_type="l1")
mse_head = functools.partial(ContinuousHead, use_map=True, loss_type="mse")
