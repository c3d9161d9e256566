"""Octo one timestep at a time: the task's prefix once a task, tokens once an observation, then prefill and read-out.

```python
prefix = octo.prefix(tasks)
prefill = octo.prefill(prefix, [earlier_observation])  # lazy: `read_out` computes it, or `compute_layer` before that
readout = octo.read_out(prefill, octo.tokenize(prefix, observation))
```
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from octo_service.model import Precision, kv_cache, observation_tokens
from octo_service.model.block_layout import BlockLayout, block_layout
from octo_service.model.kv_cache import Block, KVCache
from octo_service.model.layer_weights import LAYERS, Layer, layer_weights, norm_weights
from octo_service.model.observation_tokens import ObservationTokens, in_order
from octo_service.model.octo import Octo
from octo_service.model.parameters import stack_layers
from octo_service.model.prediction import compiled, on_device
from octo_service.model.prefill import LayerwisePrefill, Prefill, Prefix
from octo_service.model.tokens import Arrays, TokenGroup

# A timestep without an observation has one masked token: the token after it counts as one of the group before it.
PADDING = {"obs_padding": (None,)}


class StepwiseOcto:
    """An Octo's parameters laid out for reading out single timesteps; the results are those of `run_transformer`.

    All arrays have a batch of one. `params` are the transformer's, with tokenizers and positions and without the text
    encoder; `readout_key` is the readout that the action head reads.
    """

    def __init__(
        self, octo: Octo, params: Mapping[str, np.ndarray], readout_key: str, precision: Precision = "highest"
    ):
        self._octo, self._readout_key = octo, readout_key
        self._dtype = jnp.bfloat16 if precision == "bf16" else jnp.float32
        self._layers = layer_weights(params, octo.transformer.num_layers, self._dtype)
        self._norm = norm_weights(params, f"{LAYERS}encoder_norm")
        outside = {path: leaf for path, leaf in params.items() if not path.startswith(LAYERS)}
        self._leaves = on_device(stack_layers(outside))
        self._no_goal_features: dict[str, Array] = {}
        self._compile(precision)

    def _compile(self, precision: Precision) -> None:
        def program(function: Callable[..., Any], **options: Any) -> Any:
            return compiled(functools.partial(function, self._octo), precision, **options)

        self._layerwise = LayerwisePrefill(self._layers, precision)
        self._read_out = compiled(_read_out, precision, static_argnames="read")
        self._stems = program(observation_tokens.stem_weights)(self._leaves)
        self._goal_features = program(observation_tokens.goal_features, static_argnames="name")
        self._task_groups = program(observation_tokens.task_groups)
        self._observation_groups = program(observation_tokens.observation_groups, static_argnames="names")
        self._block = program(observation_tokens.positioned_block, static_argnames=("position", "layout"))

    def prefix(self, tasks: Arrays) -> Prefix:
        """Compute a task's KV cache, its text embedded already; a text that `pad_mask_dict` masks is left out."""
        masks = tasks.get("pad_mask_dict") or {}
        texts = {
            name: value
            for name, value in tasks.items()
            if any(tokenizer.reads(name) for tokenizer in self._octo.task_tokenizers.values())
            and np.asarray(masks.get(name, True)).all()
        }
        groups = in_order(self._octo.task_tokenizers, "task", self._task_groups(self._leaves, texts))
        caches = self._empty_caches()
        if groups:
            no_readouts = jnp.zeros((0, self._octo.token_embedding_size), jnp.float32)
            block = Block(jnp.concatenate(list(groups.values())), no_readouts)
            *_, caches = self._layerwise.steps(caches, [block])
        goals = {name: tasks[name] for name in self._octo.observation_names(tasks)}
        has_goal = any(np.asarray(value).any() for value in goals.values())
        goal_features = {} if has_goal else self._no_goal_features
        return Prefix(tasks=goals, groups=groups, caches=caches, goal_features=goal_features)

    def _empty_caches(self) -> tuple[KVCache, ...]:
        dim, num_heads = self._octo.token_embedding_size, self._octo.transformer.num_attention_heads
        return (kv_cache.empty_cache(num_heads, dim // num_heads, self._dtype),) * len(self._layers)

    def tokenize(self, prefix: Prefix, observation: Arrays) -> ObservationTokens:
        """Tokenize one timestep's observation, (1, 1, ...); arrays that its `pad_mask_dict` masks are left out."""
        by_tokenizer = self._by_tokenizer(observation)
        plain = [name for name in self._stems if name in by_tokenizer]
        for name in plain:
            if name not in prefix.goal_features:
                prefix.goal_features[name] = self._goal_features(
                    self._stems[name], by_tokenizer[name], prefix.tasks, name=name
                )
        goals = {name: prefix.goal_features[name] for name in plain}
        observed = {key: array for arrays in by_tokenizer.values() for key, array in arrays.items()}
        groups = self._observation_groups(
            self._leaves, self._stems, goals, observed, prefix.tasks, names=tuple(by_tokenizer)
        )
        return ObservationTokens(groups=in_order(self._octo.observation_tokenizers, "obs", groups))

    def prefill(self, prefix: Prefix, timesteps: Sequence[ObservationTokens | None]) -> Prefill:
        """Begin the prefill of these timesteps, oldest first; None is padding, before the episode began."""
        blocks = [self._positioned(prefix, tokens, position)[0] for position, tokens in enumerate(timesteps)]
        num_tokens = prefix.caches[0].keys.shape[1] + sum(len(rows) for block in blocks for rows in block)
        heads = self._octo.transformer.num_attention_heads  # each value ends with a one
        size = (2 * self._octo.token_embedding_size + heads) * jnp.dtype(self._dtype).itemsize
        num_bytes = size * num_tokens * len(self._layers)
        return Prefill(prefix, len(timesteps), num_bytes, self._layerwise.steps(prefix.caches, blocks))

    def read_out(self, prefill: Prefill, tokens: ObservationTokens) -> TokenGroup:
        """Return the embeddings of the last timestep that the head reads: tokens (1, 1, tokens, dim)."""
        block, layout = self._positioned(prefill.prefix, tokens, prefill.num_timesteps)
        return self._read_out(self._layers, self._norm, prefill.caches(), block, read=layout.read)

    def _by_tokenizer(self, observation: Arrays) -> dict[str, Arrays]:
        """Return what each tokenizer reads of an observation, without tokenizers for which nothing is shown."""
        masks = observation.get("pad_mask_dict") or {}
        real = [key for key in observation if np.asarray(masks.get(key, True)).all()]
        return {
            name: {key: array for key, array in observation.items() if tokenizer.reads(key)}
            for name, tokenizer in self._octo.observation_tokenizers.items()
            if tokenizer.is_in(real)
        }

    def _positioned(self, prefix: Prefix, tokens: ObservationTokens | None, position: int) -> tuple[Block, BlockLayout]:
        repeated = (
            {f"obs_{name}": group for name, group in prefix.groups.items()} if self._octo.repeat_task_tokens else {}
        )
        observed = {} if tokens is None else tokens.groups
        real = [*observed, *repeated, *(f"readout_{name}" for name in self._octo.readouts)]
        groups = {name: len(group) for name, group in {**(observed or PADDING), **repeated}.items()}
        groups |= {f"readout_{name}": size for name, size in self._octo.readouts.items()}
        layout = block_layout(tuple(groups.items()), tuple(real), self._readout_key, self._octo.use_correct_attention)
        return self._block(self._leaves, observed, repeated, position=position, layout=layout), layout


def _read_out(
    layers: Sequence[Layer],
    norm: tuple[Array, Array],
    caches: Sequence[KVCache],
    block: Block,
    read: tuple[int, ...],
) -> TokenGroup:
    embeddings = kv_cache.read_out(layers, norm, caches, block, read)
    return TokenGroup(embeddings[None, None], jnp.ones((1, 1, len(read)), bool))
