"""Learning rates as functions of the step: a linear warm-up, then constant, cosine or inverse square root.

Follows create_lr_schedule of octo/utils/train_utils.py, down to the order of its float32 arithmetic.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from octo_service.errors import ModelConfigError


@dataclass(frozen=True, kw_only=True)
class LearningRate(ABC):
    """Rises from `init_value` to `peak_value` in `warmup_steps`, then continues by its kind."""

    init_value: float = 0.0
    peak_value: float = 3e-4
    warmup_steps: int = 2000

    def __call__(self, step: int | Int[Array, ""]) -> Float[Array, ""]:
        """Return the rate of the update that follows `step` earlier ones."""
        left = 1 - jnp.asarray(step) / max(self.warmup_steps, 1)
        rising = (self.init_value - self.peak_value) * left + self.peak_value
        after = self.after_warmup(jnp.maximum(step - self.warmup_steps, 0))
        return jnp.where(step < self.warmup_steps, rising, after)

    @abstractmethod
    def after_warmup(self, step: Int[Array, ""]) -> float | Float[Array, ""]:
        """Return the rate `step` steps after the end of the warm-up."""


@dataclass(frozen=True, kw_only=True)
class Constant(LearningRate):
    """Stays at `peak_value`."""

    def after_warmup(self, step: Int[Array, ""]) -> float:
        """Return the peak."""
        del step
        return self.peak_value


@dataclass(frozen=True, kw_only=True)
class Cosine(LearningRate):
    """Falls to `end_value` by half a cosine; `decay_steps` are counted from the start of the warm-up."""

    decay_steps: int = 50_000
    end_value: float = 0.0

    def after_warmup(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """Return the peak times the cosine, never below the end."""
        steps = self.decay_steps - self.warmup_steps
        if steps <= 0:
            raise ModelConfigError(
                f"decay_steps ({self.decay_steps}) must be more than warmup_steps ({self.warmup_steps})",
                hint="train for more steps, or warm up for fewer",
            )
        end = self.end_value / self.peak_value
        falling = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(step, steps) / steps))
        return self.peak_value * ((1 - end) * falling + end)


@dataclass(frozen=True, kw_only=True)
class InverseSquareRoot(LearningRate):
    """Falls with the square root of the steps, slowly at first (Zhai et al. 2022, "Scaling Vision Transformers")."""

    timescale: float = 10_000

    def after_warmup(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """Return the peak, halved after three timescales."""
        return self.peak_value / jnp.sqrt((step + self.timescale) / self.timescale)


LEARNING_RATES: dict[str, type[LearningRate]] = {"constant": Constant, "cosine": Cosine, "rsqrt": InverseSquareRoot}


def learning_rate(options: Mapping[str, Any]) -> LearningRate:
    """Make the schedule of a config of the reference: its "name" and the options of that kind.

    Raises:
        ModelConfigError: an unknown name or option.
    """
    name = options.get("name")
    if name not in LEARNING_RATES:
        raise ModelConfigError(
            f"the learning rate '{name}' is not known", hint=f"available: {', '.join(LEARNING_RATES)}"
        )
    try:
        return LEARNING_RATES[name](**{key: value for key, value in options.items() if key != "name"})
    except TypeError as error:
        raise ModelConfigError(
            f"the learning rate '{name}' has options it does not take: {error}", hint="remove them from config.json"
        ) from error
