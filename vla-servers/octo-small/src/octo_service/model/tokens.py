"""Tokenizers: observations and tasks to groups of tokens.

Follows octo/model/components/tokenizers.py of octo-models/octo.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from octo_service.errors import InputError
from octo_service.model.bins import bin_tokens
from octo_service.model.image_encoders import ImageEncoder
from octo_service.model.image_stem import SmallStem, StemWeights
from octo_service.model.parameters import Parameters
from octo_service.model.transformer import attention_pool, layer_norm

Arrays = Mapping[str, Any]


class TokenGroup(NamedTuple):
    """Tokens and which of them are real; only observations and readouts have the window axis."""

    tokens: Float[Array, "batch *window tokens dim"]
    mask: Bool[Array, "batch *window tokens"]


def matching(patterns: Sequence[str], names: Iterable[str]) -> list[str]:
    """Return the sorted names whose beginning matches one of the patterns (regular expressions)."""
    return sorted(name for name in names if any(re.match(pattern, name) for pattern in patterns))


def pad_mask(tokens: Array, arrays: Arrays, keys: Sequence[str]) -> Array:
    """Return which tokens are real: where any of `keys` is, by `pad_mask_dict`; everywhere if it lacks one."""
    masks = arrays.get("pad_mask_dict") or {}
    if not all(key in masks for key in keys):
        return jnp.ones(tokens.shape[:-1], bool)
    real = jnp.stack([jnp.asarray(masks[key], bool) for key in keys]).any(0)
    return jnp.broadcast_to(real[..., None], tokens.shape[:-1])


@dataclass(frozen=True, kw_only=True)
class ImageTokenizer:
    """Turn a camera's images, stacked on their channels with the goal's, into tokens.

    `encoder_name` is the encoder's place in the parameter tree; the other fields are the config's.
    """

    encoder: ImageEncoder
    encoder_name: str
    use_token_learner: bool = False
    num_tokens: int = 8
    conditioning_type: str = "none"
    obs_stack_keys: Sequence[str] = ("image_.*", "depth_.*")
    task_stack_keys: Sequence[str] = ()
    task_film_keys: Sequence[str] = ()
    proper_pad_mask: bool = True

    def reads(self, name: str) -> bool:
        """Say whether the observation or task array `name` matters to this tokenizer."""
        return bool(matching([*self.obs_stack_keys, *self.task_stack_keys, *self.task_film_keys], [name]))

    def __call__(self, parameters: Parameters, observations: Arrays, tasks: Arrays) -> TokenGroup | None:
        """Return (batch, window, tokens, features), or None if the observation has no such image."""
        keys = matching(self.obs_stack_keys, observations)
        if not keys:
            return None
        pixels = self.pixels(observations)
        batch, window, *_ = pixels.shape
        if self.task_stack_keys:
            goal = self._goal(observations, tasks)
            goal = jnp.broadcast_to(goal[:, None], (batch, window, *goal.shape[1:]))
            pixels = jnp.concatenate([pixels, goal], axis=-1)
        features = self.encoder(
            parameters / f"{self.encoder_name}_0",
            pixels.reshape(batch * window, *pixels.shape[2:]),
            self._film(tasks, window) if self.task_film_keys else None,
        )
        tokens = features.reshape(batch, window, -1, features.shape[-1])
        if self.use_token_learner:
            tokens = _learn_tokens(parameters / "TokenLearner_0", tokens, self.num_tokens)
        masks = observations if self.proper_pad_mask else {}
        return TokenGroup(tokens, pad_mask(tokens, masks, keys))

    def is_in(self, names: Iterable[str]) -> bool:
        """Say whether there are images of this camera among observations of these names."""
        return bool(matching(self.obs_stack_keys, names))

    def pixels(self, observations: Arrays) -> Array:
        """Return the camera's images, (batch, window, height, width, channels), without goals."""
        keys = matching(self.obs_stack_keys, observations)
        return jnp.concatenate([jnp.asarray(observations[key], jnp.float32) for key in keys], axis=-1)

    @property
    def plain_stem(self) -> SmallStem | None:
        """The encoder, where it is a SmallStem and all there is between pixels and tokens."""
        is_plain = not self.task_film_keys and not self.use_token_learner
        return self.encoder if is_plain and isinstance(self.encoder, SmallStem) else None

    def goal_features(self, weights: StemWeights, observations: Arrays, tasks: Arrays) -> Array:
        """Return what a plain stem's first layer makes of the goal, with its biases, beside a black image."""
        black = jnp.zeros_like(self.pixels(observations))[:, 0]
        stacked = [black, self._goal(observations, tasks)] if self.task_stack_keys else [black]
        assert self.plain_stem is not None, "asked of plain stems alone"
        return self.plain_stem.first_layer(weights, jnp.concatenate(stacked, axis=-1))

    def _goal(self, observations: Arrays, tasks: Arrays) -> Array:
        # A missing goal is black before normalization, so -1 after it.
        absent = {
            key: jnp.zeros_like(observations[key][:, 0], jnp.float32)
            for key in matching(self.task_stack_keys, observations)
            if key not in tasks
        }
        goals = {**tasks, **absent}
        keys = matching(self.task_stack_keys, goals)
        return jnp.concatenate([jnp.asarray(goals[key], jnp.float32) for key in keys], axis=-1)

    def _film(self, tasks: Arrays, window: int) -> Array:
        film = jnp.concatenate([jnp.asarray(tasks[key], jnp.float32) for key in self.task_film_keys], axis=-1)
        return jnp.repeat(film.reshape(film.shape[0], -1), window, axis=0)


def _learn_tokens(parameters: Parameters, tokens: Array, num_tokens: int) -> Array:
    positioned = tokens + parameters.get("pos_embed", *tokens.shape[-2:])
    normed = layer_norm(parameters / "LayerNorm_0", positioned)
    return attention_pool(parameters / "MAPHead_0", normed, None, num_tokens)


@dataclass(frozen=True, kw_only=True)
class LanguageTokenizer:
    """Turn the instruction's embedding into tokens, one per text token.

    The text encoder itself has run before (`t5.py`): here the instruction is (batch, tokens, features), or
    (batch, features) for a sentence embedding. Padding text tokens are tokens like any other, as in the reference.
    """

    encoder: str | None = None
    finetune_encoder: bool = False
    proper_pad_mask: bool = True

    def reads(self, name: str) -> bool:
        """Say whether the observation or task array `name` matters to this tokenizer."""
        return name == "language_instruction"

    def __call__(self, parameters: Parameters, observations: Arrays, tasks: Arrays) -> TokenGroup | None:
        """Return (batch, tokens, features), or None if the task has no instruction."""
        del parameters, observations
        if "language_instruction" not in tasks:
            return None
        tokens = jnp.asarray(tasks["language_instruction"], jnp.float32)
        tokens = tokens[:, None] if tokens.ndim == 2 else tokens
        masks = tasks if self.proper_pad_mask else {}
        return TokenGroup(tokens, pad_mask(tokens, masks, ("language_instruction",)))


@dataclass(frozen=True, kw_only=True)
class LowdimObsTokenizer:
    """Turn numbers such as proprio into one token each: the number itself, or the bin it falls in."""

    n_bins: int = 256
    bin_type: str = "uniform"
    low: float = 0
    high: float = 1
    obs_keys: Sequence[str] = ()
    discretize: bool = False
    proper_pad_mask: bool = True

    def reads(self, name: str) -> bool:
        """Say whether the observation or task array `name` matters to this tokenizer."""
        return bool(matching(self.obs_keys, [name]))

    def is_in(self, names: Iterable[str]) -> bool:
        """Say whether there are such numbers among observations of these names."""
        return bool(matching(self.obs_keys, names))

    def __call__(self, parameters: Parameters, observations: Arrays, tasks: Arrays) -> TokenGroup | None:
        """Return (batch, window, numbers, features), or None if the observation has none of the keys."""
        del parameters, tasks
        keys = [key for pattern in self.obs_keys for key in matching([pattern], observations)]
        if not keys:
            return None
        for key in keys:
            if observations[key].ndim != 3:
                raise InputError(f"'{key}' is {observations[key].shape}", hint="pass (batch, window, numbers)")
        numbers = jnp.concatenate([jnp.asarray(observations[key], jnp.float32) for key in keys], axis=-1)
        if not self.discretize:
            tokens = numbers[..., None]
        else:
            bins = bin_tokens(numbers, self.n_bins, self.bin_type, self.low, self.high)
            tokens = jax.nn.one_hot(bins, self.n_bins)
        # The reference attends to these even where they are masked; the data that it learns from never masks them.
        masks = observations if self.proper_pad_mask else {}
        return TokenGroup(tokens, pad_mask(tokens, masks, keys))
