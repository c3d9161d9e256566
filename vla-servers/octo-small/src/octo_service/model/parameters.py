"""The parameter tree, by the released names: read from a checkpoint, or only declared to learn its shapes."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from octo_service.model.noise import Key, module_key

Shapes = dict[str, tuple[int, ...]]


class Part(NamedTuple):
    """One of several equal parts of a batch: the `number`th, from 0 on."""

    number: Array
    of: int


class Leaves(NamedTuple):
    """The arrays of a tree: single ones by path, and those of layers that repeat, stacked on a leading axis.

    `stacks["a/block_{}"]["kernel"]` holds `a/block_0/kernel`, `a/block_1/kernel` and so on.
    """

    single: Mapping[str, Array]
    stacks: Mapping[str, Mapping[str, Array]]


@dataclass(frozen=True)
class Parameters:
    """A place in the tree. `parameters / "Dense_0"` goes down, `get("kernel", 3, 4)` reads a leaf there.

    Every read says the shape it needs, so one forward pass both computes and declares what it is made of.
    A training pass has a `rng`, which dropout draws from; without one nothing is dropped. Where shapes are only
    declared, `declared` takes how many layers there are under each name with a "{}": they are alike.
    Where only a `part` of a batch is computed, the same is dropped as in the whole. With `remat` a gradient computes
    each layer again instead of keeping what is in it.
    """

    leaf: Callable[[str, tuple[int, ...]], Array]
    stacks: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    path: str = ""
    rng: Key | None = None
    declared: dict[str, int] | None = None
    part: Part | None = None
    remat: bool = False

    def __truediv__(self, name: str) -> "Parameters":
        return replace(self, path=f"{self.path}{name}/")

    def get(self, name: str, *shape: int) -> Array:
        """Return the leaf `name` here; its shape is `shape`."""
        return self.leaf(self.path + name, shape)

    def dropout(self, name: str, x: Array, rate: float, batch_axis: int = 0) -> Array:
        """Drop numbers of `x` at `rate` in training, as the reference's module `name` here does."""
        if self.rng is None or not rate:
            return x
        key = module_key(self.rng, self.path + name)
        if self.part is None:
            kept = jax.random.bernoulli(key, 1 - rate, x.shape)
        else:
            size, shape = x.shape[batch_axis], list(x.shape)
            shape[batch_axis] = size * self.part.of
            whole = jax.random.bernoulli(key, 1 - rate, tuple(shape))
            kept = jax.lax.dynamic_slice_in_dim(whole, self.part.number * size, size, batch_axis)
        return jnp.where(kept, x / (1 - rate), 0)

    def fold(self, layers: str, count: int, step: Callable[["Parameters", Array], Array], x: Array) -> Array:
        """Apply `step` at the places `layers.format(0)` to `layers.format(count - 1)` in turn.

        Where they are stacked this is one loop on the device, which compiles several times faster; nothing is
        dropped in it, its layers having one path.
        """
        if self.declared is not None:
            self.declared[self.path + layers] = count
            return step(self / layers, x)
        stack = self.stacks.get(self.path + layers)
        if stack is None:
            for layer in range(count):
                at_layer = functools.partial(step, self / layers.format(layer))
                x = jax.checkpoint(at_layer)(x) if self.remat else at_layer(x)
            return x

        def next_layer(x: Array, single: Mapping[str, Array]) -> tuple[Array, None]:
            return step(stored(Leaves(single, {})), x), None

        if self.remat:
            next_layer = jax.checkpoint(next_layer, prevent_cse=False)  # a loop is not looked through for repetitions
        return jax.lax.scan(next_layer, x, stack)[0]


def stored(leaves: Leaves, rng: Key | None = None) -> Parameters:
    """Give the tree whose leaves are `leaves`; with a `rng` for training."""

    def leaf(path: str, shape: tuple[int, ...]) -> Array:
        value = leaves.single[path]
        assert value.shape == shape, f"{path} is {value.shape}, the network wants {shape}"
        return value

    return Parameters(leaf, leaves.stacks, rng=rng)


def stack_layers(leaves: Mapping[str, Any], stack: Callable[[list[Any]], Any] = np.stack) -> Leaves:
    """Stack what repeats: the encoder blocks of the transformer and of T5."""
    single: dict[str, Any] = {}
    repeated: dict[tuple[str, str], dict[int, Any]] = {}
    for path, value in leaves.items():
        match = re.fullmatch(r"(.*/(?:encoderblock_|block/))(\d+)/(.*)", path)
        if match:
            repeated.setdefault((match[1] + "{}", match[3]), {})[int(match[2])] = value
        else:
            single[path] = value
    stacks: dict[str, dict[str, Any]] = {}
    for (layers, name), values in repeated.items():
        if len(values) == 1:  # such as T5's relative positions, which only its first block has
            single |= {f"{layers.format(layer)}/{name}": value for layer, value in values.items()}
        else:
            stacks.setdefault(layers, {})[name] = stack([values[layer] for layer in sorted(values)])
    return Leaves(single, stacks)


def declared_shapes(forward: Callable[[Parameters], Any]) -> Shapes:
    """Return the path and shape of every leaf that `forward` reads, without computing anything."""
    shapes: Shapes = {}
    layers: dict[str, int] = {}

    def leaf(path: str, shape: tuple[int, ...]) -> Array:
        shapes[path] = shape
        return jnp.zeros(shape, jnp.float32)

    jax.eval_shape(lambda: forward(Parameters(leaf, declared=layers)))
    counts = {path: next((layers[name] for name in layers if path.startswith(name)), 1) for path in shapes}
    return {path.format(layer): shape for path, shape in shapes.items() for layer in range(counts[path])}
