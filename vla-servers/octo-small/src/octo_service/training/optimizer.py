"""AdamW as the reference sets it up: some leaves frozen, gradients clipped, kernels decayed.

Follows create_optimizer of octo/utils/train_utils.py and optax 0.1.5, whose AdamW it is made of (Loshchilov and
Hutter 2019). Written out here so that what is rounded to bfloat16, and when, depends on neither the compiler nor the
release of optax, of which JAX 0.4.20 and the newest JAX get different ones.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, BFloat16, Float, Float32, Int

from octo_service.errors import ModelConfigError
from octo_service.training.learning_rates import LearningRate, learning_rate

# Which parameters stay as they are, by finetuning_mode of the reference's finetune_config.py.
FROZEN_KEYS = {
    "full": ("*hf_model*",),
    "head_only": ("octo_transformer.*",),
    "head_mlp_only": (
        "octo_transformer.*",
        "heads_*.map_head.probe",
        "heads_*.map_head.MultiHeadDotProductAttention_0.*",
    ),
}
B1, B2, EPSILON = 0.9, 0.999, 1e-8


class Moments(NamedTuple):
    """Running means of the gradients and of their squares, by path."""

    mu: dict[str, BFloat16[Array, "..."]]
    nu: dict[str, Float32[Array, "..."]]


Leaves = Mapping[str, Float[Array, "..."]]


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How a gradient becomes an update; without state, which is `Moments` and the number of the step."""

    learning_rate: LearningRate
    weight_decay: float = 0.01
    """Of leaves with "kernel" in their path, scaled by the learning rate: not of biases, norms and positions."""
    clip_gradient: float | None = 1.0
    """The largest norm of the gradient over all trainable leaves together."""
    frozen_keys: tuple[str, ...] = FROZEN_KEYS["full"]
    """Shell patterns over paths joined by dots; what matches one is not trained."""

    def trains(self, path: str) -> bool:
        """Say whether the parameter at `path` is trained."""
        return not any(fnmatchcase(path.replace("/", "."), key) for key in self.frozen_keys)

    def start(self, params: Leaves) -> Moments:
        """Return the moments before the first step."""
        # Made on the host: on the device every shape of zeros would be a program to compile.
        return Moments(
            mu={path: jnp.asarray(np.zeros(leaf.shape, jnp.bfloat16)) for path, leaf in params.items()},
            nu={path: jnp.asarray(np.zeros(leaf.shape, np.float32)) for path, leaf in params.items()},
        )

    def update(
        self, gradients: Leaves, moments: Moments, params: Leaves, step: int | Int[Array, ""]
    ) -> tuple[dict[str, Array], Moments]:
        """Return what to add to the trainable `params` after `step` earlier updates, and the new moments."""
        gradients = self._clipped(gradients)
        rate = self.learning_rate(step)
        # As 0.9 times a bfloat16 number is computed: 0.9 becomes one too, the product does not.
        kept = jnp.asarray(B1, jnp.bfloat16).astype(jnp.float32)
        bias1, bias2 = 1 - B1 ** (jnp.asarray(step) + 1), 1 - B2 ** (jnp.asarray(step) + 1)

        updates, new = {}, Moments({}, {})
        for path, gradient in gradients.items():
            mu = (1 - B1) * gradient + kept * moments.mu[path].astype(jnp.float32)
            nu = (1 - B2) * jnp.square(gradient) + B2 * moments.nu[path]
            direction = (mu / bias1) / (jnp.sqrt(nu / bias2) + EPSILON)
            if "kernel" in path:
                direction = direction + self.weight_decay * params[path]
            updates[path] = -rate * direction
            new.mu[path], new.nu[path] = mu.astype(jnp.bfloat16), nu
        return updates, new

    def _clipped(self, gradients: Leaves) -> Leaves:
        if self.clip_gradient is None:
            return gradients
        norm = global_norm(gradients)
        scale = jnp.where(norm < self.clip_gradient, 1.0, self.clip_gradient / norm)
        return {path: gradient * scale for path, gradient in gradients.items()}


def global_norm(leaves: Leaves) -> Float[Array, ""]:
    """Return the norm of all leaves together."""
    return jnp.sqrt(sum((jnp.sum(jnp.square(leaf)) for leaf in leaves.values()), jnp.zeros(())))


def create_optimizer(options: Mapping[str, Any]) -> Optimizer:
    """Make the optimizer of a config of the reference (`config["optimizer"]` of a checkpoint).

    Raises:
        ModelConfigError: an unknown option or learning rate.
    """
    options = {key: value for key, value in options.items() if value is not None}
    if unknown := sorted(options.keys() - {field.name for field in dataclasses.fields(Optimizer)}):
        raise ModelConfigError(
            f"the optimizer has options that are not available: {', '.join(unknown)}",
            hint="remove them",
        )
    frozen = tuple(options.pop("frozen_keys", FROZEN_KEYS["full"]))
    schedule = learning_rate(options.pop("learning_rate", {}))
    return Optimizer(learning_rate=schedule, frozen_keys=frozen, **options)
