"""The network: tokenizers, transformer and action head, as a checkpoint's config.json describes them.

Follows octo/model/octo_module.py of octo-models/octo.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from octo_service.errors import InputError
from octo_service.model.attention_mask import attention_mask
from octo_service.model.heads import ActionHead
from octo_service.model.parameters import Parameters
from octo_service.model.tokens import (
    Arrays,
    ImageTokenizer,
    LanguageTokenizer,
    LowdimObsTokenizer,
    TokenGroup,
)
from octo_service.model.transformer import Transformer, dense

ObservationTokenizer = ImageTokenizer | LowdimObsTokenizer
Tokenizer = ObservationTokenizer | LanguageTokenizer


@dataclass(frozen=True, kw_only=True)
class Octo:
    """One architecture. Fields are those of `config["model"]`; parameters come in at every call."""

    observation_tokenizers: Mapping[str, ObservationTokenizer]
    task_tokenizers: Mapping[str, Tokenizer]
    heads: Mapping[str, ActionHead]
    readouts: Mapping[str, int]
    transformer: Transformer
    token_embedding_size: int
    max_horizon: int
    repeat_task_tokens: bool = False
    use_correct_attention: bool = False

    def observation_names(self, names: Any) -> list[str]:
        """Return those of the observation arrays that some tokenizer reads."""
        return [name for name in names if any(t.reads(name) for t in self.observation_tokenizers.values())]

    def task_names(self, names: Any) -> list[str]:
        """Return those of the task arrays that some tokenizer reads."""
        tokenizers = [*self.task_tokenizers.values(), *self.observation_tokenizers.values()]
        return [name for name in names if any(t.reads(name) for t in tokenizers)]

    def run_transformer(
        self,
        parameters: Parameters,
        observations: Arrays,
        tasks: Arrays,
        timestep_pad_mask: Bool[Array, "batch window"],
    ) -> dict[str, TokenGroup]:
        """Return the embeddings of every token group, and of all tasks ("task") and observations ("obs").

        `tasks["language_instruction"]` is embedded already (`t5.py`). Observations are (batch, window, ...),
        tasks (batch, ...); a timestep where `timestep_pad_mask` is False is attended by none.
        """
        place = parameters / "octo_transformer"
        prefix, timestep = self.token_groups(place, observations, tasks, timestep_pad_mask)
        return self._attend(place / "BlockTransformer_0" / "Transformer_0", prefix, timestep)

    def token_groups(
        self, place: Parameters, observations: Arrays, tasks: Arrays, timestep_pad_mask: Bool[Array, "batch window"]
    ) -> tuple[dict[str, TokenGroup], dict[str, TokenGroup]]:
        """Return the transformer's input, in its order: the task's groups, and those of every timestep."""
        window = timestep_pad_mask.shape[1]
        if window > self.max_horizon:
            raise InputError(
                f"a window of {window} timesteps is too long", hint=f"this model takes up to {self.max_horizon}"
            )
        prefix = self.task_groups(place, observations, tasks)
        timestep = {}
        for name, group in self.observation_groups(place, observations, tasks).items():
            tokens = group.tokens + self.positions(place, name, group.tokens.shape[-2])[:, :window]
            timestep[name] = TokenGroup(tokens, group.mask & timestep_pad_mask[:, :, None])
        if self.repeat_task_tokens:
            # Unlike observations these stay visible in a padded timestep: the reference does not mask them there.
            timestep |= {f"obs_{name}": _repeat(group, window) for name, group in prefix.items()}
        for name, num_tokens in self.readouts.items():
            shape = (*timestep_pad_mask.shape, num_tokens)
            positions = self.positions(place, f"readout_{name}", num_tokens)[:, :window]
            tokens = jnp.broadcast_to(positions, (*shape, self.token_embedding_size))
            timestep[f"readout_{name}"] = TokenGroup(tokens, jnp.ones(shape, bool))
        return prefix, timestep

    def task_groups(self, place: Parameters, observations: Arrays, tasks: Arrays) -> dict[str, TokenGroup]:
        """Return the task's groups, each with its positions."""
        groups = {}
        for name, tokenizer in self.task_tokenizers.items():
            group = tokenizer(place / f"task_tokenizers_{name}", observations, tasks)
            if group:
                tokens, mask = self._projected(place, f"task_{name}", group)
                positions = place.get(f"task_{name}_pos_embedding", 1, *tokens.shape[-2:])
                groups[f"task_{name}"] = TokenGroup(tokens + positions, mask)
        return groups

    def observation_groups(
        self, place: Parameters, observations: Arrays, tasks: Arrays, tokenized: Mapping[str, TokenGroup] | None = None
    ) -> dict[str, TokenGroup]:
        """Return the groups of every timestep's observation, which say nothing yet of its place in the window.

        What a tokenizer would give may be `tokenized` already, by the tokenizer's name.
        """
        groups = {}
        for name, tokenizer in self.observation_tokenizers.items():
            group = (tokenized or {}).get(name)
            group = group or tokenizer(place / f"observation_tokenizers_{name}", observations, tasks)
            if group:
                groups[f"obs_{name}"] = self._projected(place, f"obs_{name}", group)
        return groups

    def _projected(self, place: Parameters, name: str, group: TokenGroup) -> TokenGroup:
        return TokenGroup(dense(place / f"{name}_projection", group.tokens, self.token_embedding_size), group.mask)

    def positions(self, place: Parameters, name: str, num_tokens: int) -> Float[Array, "1 max_horizon tokens dim"]:
        """Return what a group of observation or readout tokens gets at each place in a window."""
        return place.get(f"{name}_pos_embedding", 1, self.max_horizon, num_tokens, self.token_embedding_size)

    def _attend(
        self, place: Parameters, prefix: dict[str, TokenGroup], timestep: dict[str, TokenGroup]
    ) -> dict[str, TokenGroup]:
        mask = attention_mask(prefix, timestep, self.use_correct_attention)
        steps = jnp.concatenate([group.tokens for group in timestep.values()], axis=2)
        flat = steps.reshape(steps.shape[0], -1, steps.shape[-1])
        tokens = jnp.concatenate([*(group.tokens for group in prefix.values()), flat], axis=1)
        out = self.transformer(place, tokens, mask)

        num_prefix = out.shape[1] - flat.shape[1]
        out_tasks, out_steps = out[:, :num_prefix], out[:, num_prefix:].reshape(steps.shape)
        outputs = _split(out_tasks, prefix) | _split(out_steps, timestep)
        if prefix:
            outputs["task"] = _join([outputs[name] for name in prefix])
        outputs["obs"] = _join([outputs[name] for name in timestep if name.startswith("obs_")])
        return outputs


def _repeat(group: TokenGroup, window: int) -> TokenGroup:
    return TokenGroup(*(jnp.repeat(array[:, None], window, axis=1) for array in group))


def _join(groups: Sequence[TokenGroup]) -> TokenGroup:
    tokens, masks = zip(*groups, strict=True)
    return TokenGroup(jnp.concatenate(tokens, axis=-2), jnp.concatenate(masks, axis=-1))


def _split(out: Float[Array, "batch *window tokens dim"], groups: dict[str, TokenGroup]) -> dict[str, TokenGroup]:
    ends = np.cumsum([group.mask.shape[-1] for group in groups.values()])[:-1]
    parts = jnp.split(out, ends, axis=-2) if groups else []
    return {name: TokenGroup(part, group.mask) for (name, group), part in zip(groups.items(), parts, strict=True)}
