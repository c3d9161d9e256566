"""Octo read out step by step: once per task its prefix, once per frame its tokens, and the past before it is asked for.

```python
prefix = octo.prefix(tasks)
past = octo.past(prefix, [frame_before])  # computed when `read_out` wants it, or piece by piece before
readout = octo.read_out(past, octo.frame(prefix, observation))
```
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from octo_service.model import kv_cache as incremental
from octo_service.model import prediction
from octo_service.model.image_stem import SmallStem, StemWeights
from octo_service.model.kv_cache import Block, BlockLayout, Context, Layer, layout_of
from octo_service.model.octo import Octo
from octo_service.model.parameters import Leaves, stack_layers, stored
from octo_service.model.tokens import Arrays, ImageTokenizer, TokenGroup
from octo_service.precision import Precision

# A timestep without an observation has one masked token in its place: what comes next is named by what was before it.
PADDING = {"obs_padding": (None,)}


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """A task as the transformer sees it: its tokens, none where it says nothing, what they leave, and its pictures."""

    tasks: Arrays
    groups: Mapping[str, Float[Array, "tokens dim"]]
    contexts: tuple[Context, ...]
    beside: dict[str, Array]
    """By tokenizer, what its stem makes of the goal, once a frame was tokenized; tasks without a goal share it."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One timestep's observation as tokens by group, not yet positioned in a window: (tokens, dim) each."""

    groups: Mapping[str, Float[Array, "tokens dim"]]


class Past:
    """The timesteps of a window before its last: their keys and values, computed piece by piece.

    `computed` is what there is so far, of all layers; `num_bytes` is what it takes once it is whole.
    """

    def __init__(self, prefix: Prefix, num_frames: int, num_bytes: int, pieces: Iterator[tuple[Context, ...]]):
        self.prefix, self.num_frames, self.num_bytes = prefix, num_frames, num_bytes
        self.computed = prefix.contexts
        self._pieces = pieces

    def compute_piece(self) -> bool:
        """Compute one piece, of one layer; say whether one was left."""
        computed = next(self._pieces, None)
        if computed is None:
            return False
        self.computed = computed
        return True

    def contexts(self) -> tuple[Context, ...]:
        """Return every layer's context; what is not computed yet is computed now."""
        while self.compute_piece():
            pass
        return self.computed


class StepwiseOcto:
    """An Octo's parameters laid out for reading out single timesteps; the results are those of `run_transformer`.

    All arrays have a batch of one. `params` are the transformer's, tokenizers and positions included, without the text
    encoder's; `readout_key` is the one its head reads.
    """

    def __init__(
        self, octo: Octo, params: Mapping[str, np.ndarray], readout_key: str, precision: Precision = "highest"
    ):
        self._octo, self._readout_key = octo, readout_key
        transformer, compiled = octo.transformer, functools.partial(prediction.compiled, precision=precision)
        self._dtype = jnp.bfloat16 if precision == "bf16" else jnp.float32
        self._layers = incremental.layers_of(params, transformer.num_layers, self._dtype)
        self._norm = incremental.norm_of(params, f"{incremental.LAYERS}encoder_norm")
        outside = {path: leaf for path, leaf in params.items() if not path.startswith(incremental.LAYERS)}
        self._leaves = prediction.on_device(stack_layers(outside))
        self._extend = compiled(incremental.extend)
        self._remember = compiled(incremental.remember)
        self._read_out = compiled(_read_out, static_argnames="needed")
        self._stems = compiled(functools.partial(_stem_weights, octo))(self._leaves)
        self._beside_no_goal: dict[str, Array] = {}
        self._beside = compiled(functools.partial(_beside, octo), static_argnames="name")
        self._task_groups = compiled(functools.partial(_task_groups, octo))
        self._frame_groups = compiled(functools.partial(_frame_groups, octo), static_argnames="shown")
        self._block = compiled(functools.partial(_block, octo), static_argnames=("position", "layout"))

    def prefix(self, tasks: Arrays) -> Prefix:
        """Take in a task, its text embedded already; a text that `pad_mask_dict` masks is left out."""
        masks = tasks.get("pad_mask_dict") or {}
        said = {
            name: value
            for name, value in tasks.items()
            if any(tokenizer.reads(name) for tokenizer in self._octo.task_tokenizers.values())
            and np.asarray(masks.get(name, True)).all()
        }
        groups = _in_order(self._octo.task_tokenizers, "task", self._task_groups(self._leaves, said))
        dim, num_heads = self._octo.token_embedding_size, self._octo.transformer.num_attention_heads
        contexts = (incremental.empty_context(num_heads, dim // num_heads, self._dtype),) * len(self._layers)
        if groups:
            block = Block(jnp.concatenate(list(groups.values())), jnp.zeros((0, dim), jnp.float32))
            *_, contexts = self._past_pieces(contexts, [block])
        shown = {name: tasks[name] for name in self._octo.observation_names(tasks)}
        has_goal = any(np.asarray(value).any() for value in shown.values())
        beside = {} if has_goal else self._beside_no_goal
        return Prefix(tasks=shown, groups=groups, contexts=contexts, beside=beside)

    def frame(self, prefix: Prefix, observation: Arrays) -> Frame:
        """Tokenize one timestep's observation, (1, 1, ...); what its `pad_mask_dict` masks is left out."""
        read = self._read(observation)
        plain = [name for name in self._stems if name in read]
        for name in plain:
            if name not in prefix.beside:
                prefix.beside[name] = self._beside(self._stems[name], read[name], prefix.tasks, name=name)
        beside = {name: prefix.beside[name] for name in plain}
        seen = {key: array for arrays in read.values() for key, array in arrays.items()}
        groups = self._frame_groups(self._leaves, self._stems, beside, seen, prefix.tasks, shown=tuple(read))
        return Frame(groups=_in_order(self._octo.observation_tokenizers, "obs", groups))

    def past(self, prefix: Prefix, frames: Sequence[Frame | None]) -> Past:
        """Begin the past of these frames, oldest first; a frame of None is padding, before the episode began."""
        blocks = [self._positioned(prefix, frame, position)[0] for position, frame in enumerate(frames)]
        num_tokens = prefix.contexts[0].keys.shape[1] + sum(len(rows) for block in blocks for rows in block)
        heads = self._octo.transformer.num_attention_heads  # each value ends with a one
        size = (2 * self._octo.token_embedding_size + heads) * jnp.dtype(self._dtype).itemsize
        num_bytes = size * num_tokens * len(self._layers)
        return Past(prefix, len(frames), num_bytes, self._past_pieces(prefix.contexts, blocks))

    def read_out(self, past: Past, frame: Frame) -> TokenGroup:
        """Return the embeddings of the last timestep that the head reads: tokens (1, 1, tokens, dim)."""
        block, layout = self._positioned(past.prefix, frame, past.num_frames)
        return self._read_out(self._layers, self._norm, past.contexts(), block, needed=layout.needed)

    def _read(self, observation: Arrays) -> dict[str, Arrays]:
        """Return what each tokenizer reads of an observation, by the names of those for which something is there."""
        masks = observation.get("pad_mask_dict") or {}
        real = [key for key in observation if np.asarray(masks.get(key, True)).all()]
        return {
            name: {key: array for key, array in observation.items() if tokenizer.reads(key)}
            for name, tokenizer in self._octo.observation_tokenizers.items()
            if tokenizer.is_in(real)
        }

    def _past_pieces(self, contexts: tuple[Context, ...], blocks: Sequence[Block]) -> Iterator[tuple[Context, ...]]:
        """Yield the contexts with more and more of the blocks' keys and values, one layer more each time."""
        for block in blocks:
            for index, layer in enumerate(self._layers[:-1]):
                block, extended = self._extend(layer, contexts[index], block)
                contexts = (*contexts[:index], extended, *contexts[index + 1 :])
                yield contexts
            contexts = (*contexts[:-1], self._remember(self._layers[-1], contexts[-1], block))
            yield contexts

    def _positioned(self, prefix: Prefix, frame: Frame | None, position: int) -> tuple[Block, BlockLayout]:
        repeated = (
            {f"obs_{name}": group for name, group in prefix.groups.items()} if self._octo.repeat_task_tokens else {}
        )
        seen = {} if frame is None else frame.groups
        real = [*seen, *repeated, *(f"readout_{name}" for name in self._octo.readouts)]
        groups = {name: len(group) for name, group in {**(seen or PADDING), **repeated}.items()}
        groups |= {f"readout_{name}": size for name, size in self._octo.readouts.items()}
        layout = layout_of(tuple(groups.items()), tuple(real), self._readout_key, self._octo.use_correct_attention)
        return self._block(self._leaves, seen, repeated, position=position, layout=layout), layout


def _in_order(names: Iterable[str], kind: str, groups: Mapping[str, Array]) -> dict[str, Array]:
    """Return groups in the order of the config: what is compiled gives them in that of their names."""
    ordered = [f"{kind}_{name}" for name in names]
    return {name: groups[name] for name in ordered if name in groups}


def _task_groups(octo: Octo, leaves: Leaves, tasks: Arrays) -> dict[str, Array]:
    groups = octo.task_groups(stored(leaves) / "octo_transformer", {}, tasks)
    return {name: group.tokens[0] for name, group in groups.items()}


def _frame_groups(
    octo: Octo,
    leaves: Leaves,
    stems: Mapping[str, StemWeights],
    beside: Mapping[str, Array],
    observation: Arrays,
    tasks: Arrays,
    shown: tuple[str, ...],
) -> dict[str, Array]:
    octo = replace(octo, observation_tokenizers={name: octo.observation_tokenizers[name] for name in shown})
    tokenized = {}
    for name, rest in beside.items():
        images, stem = _plain(octo, name)
        features = stem.encode(stems[name], images.pixels(observation)[0], rest)
        tokens = features.reshape(1, 1, -1, features.shape[-1])
        tokenized[name] = TokenGroup(tokens, jnp.ones(tokens.shape[:-1], bool))
    groups = octo.frame_groups(stored(leaves) / "octo_transformer", observation, tasks, tokenized)
    return {name: group.tokens[0, 0] for name, group in groups.items()}


def _read_out(
    layers: Sequence[Layer],
    norm: tuple[Array, Array],
    contexts: Sequence[Context],
    block: Block,
    needed: tuple[int, ...],
) -> TokenGroup:
    embeddings = incremental.read_out(layers, norm, contexts, block, needed)
    return TokenGroup(embeddings[None, None], jnp.ones((1, 1, len(needed)), bool))


def _stem_weights(octo: Octo, leaves: Leaves) -> dict[str, StemWeights]:
    """Return the weights of every stem that works without its goal's pixels, by tokenizer."""
    weights = {}
    for name, tokenizer in octo.observation_tokenizers.items():
        if isinstance(tokenizer, ImageTokenizer) and tokenizer.plain_stem is not None:
            path = f"octo_transformer/observation_tokenizers_{name}/{tokenizer.encoder_name}_0/"
            kernel = leaves.single.get(f"{path}StdConv_0/kernel")
            if kernel is not None:  # there are none for pictures that the checkpoint was trained without
                weights[name] = tokenizer.plain_stem.weights(stored(leaves) / path.rstrip("/"), kernel.shape[2])
    return weights


def _plain(octo: Octo, name: str) -> tuple[ImageTokenizer, SmallStem]:
    tokenizer = octo.observation_tokenizers[name]
    assert isinstance(tokenizer, ImageTokenizer)
    assert tokenizer.plain_stem is not None
    return tokenizer, tokenizer.plain_stem


def _beside(octo: Octo, weights: StemWeights, observation: Arrays, tasks: Arrays, name: str) -> Array:
    return _plain(octo, name)[0].beside(weights, observation, tasks)


def _block(
    octo: Octo,
    leaves: Leaves,
    seen: Mapping[str, Array],
    repeated: Mapping[str, Array],
    position: int,
    layout: BlockLayout,
) -> Block:
    """Lay a timestep's groups side by side, at their place in the window."""
    place = stored(leaves) / "octo_transformer"

    def positions(name: str, num_tokens: int) -> Array:
        return octo.positions(place, name, num_tokens)[0, position]

    seen = _in_order(octo.observation_tokenizers, "obs", seen)
    repeated = _in_order(octo.task_tokenizers, "obs_task", repeated)
    placed = [group + positions(name, len(group)) for name, group in seen.items()]
    readouts = [positions(f"readout_{name}", size) for name, size in octo.readouts.items()]
    padding = [] if seen else [jnp.zeros((1, octo.token_embedding_size), jnp.float32)]
    tokens = jnp.concatenate([*padding, *placed, *repeated.values(), *readouts])
    return Block(tokens[np.array(layout.tokens, int)], tokens[np.array(layout.readouts, int)])
