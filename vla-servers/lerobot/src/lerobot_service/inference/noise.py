"""The noise of a policy: every draw of PyTorch, row by row, from one generator a row."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class UnsplittableDraw(RuntimeError):
    """A policy draws noise that cannot be told apart by the rows of its batch."""


def generator_of(seed: int, step: int, sample: int) -> torch.Generator:
    """Return the generator for a sample of a step: that of `torch.manual_seed(seed)` for the first sample of step 0.

    Every other one is seeded with 64 bits that numpy's `SeedSequence((seed, step, sample))` mixes.
    """
    if step == sample == 0:
        return torch.Generator().manual_seed(seed)
    mixed = np.random.SeedSequence((seed, step, sample)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0]))


class SeededNoise(TorchFunctionMode):
    """While it is entered, all that PyTorch draws for row i of a batch comes from `generators[i]`, on the CPU.

    The first axis of a draw is the batch's, or the batch's with others after it, flattened. So each row gets what it
    would get alone, on any device, and a row alone what it would get after `torch.manual_seed`. `num_draws` counts.

    Raises:
        UnsplittableDraw: a draw's first axis is not a multiple of the batch.
    """

    def __init__(self, generators: Sequence[torch.Generator]):
        super().__init__()
        self._generators = generators
        self.num_draws = 0

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Draw where `func` draws from PyTorch's global generator; else call it."""
        del types
        kwargs = kwargs or {}
        draw = _DRAWS.get(func)
        if draw is None or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        self.num_draws += 1
        with torch.no_grad():
            return draw(self, func, *args, **{name: value for name, value in kwargs.items() if name != "generator"})

    def fill(self, out: Tensor, method: str, *args: Any, **kwargs: Any) -> Tensor:
        """Fill a tensor in place with the method of that name."""
        for index, generator in enumerate(self._generators):
            row = self._row(out, index)
            drawn = row if row.device.type == "cpu" else torch.empty(row.shape, dtype=row.dtype)
            getattr(drawn, method)(*args, generator=generator, **kwargs)
            if drawn is not row:
                row.copy_(drawn)
        return out

    def draw_from(self, func: Callable, *args: Any, **kwargs: Any) -> Tensor:
        """Draw from the distribution whose parameters are the tensors among the arguments."""
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        first_axis = max(len(tensor) if tensor.dim() else 0 for tensor in tensors)

        def row(value: Any, index: int) -> Any:
            if not isinstance(value, Tensor):
                return value
            whole = not value.dim() or len(value) < first_axis
            return (value if whole else self._row(value, index)).cpu()

        rows = [
            func(
                *(row(value, index) for value in args),
                **{name: row(value, index) for name, value in kwargs.items()},
                generator=generator,
            )
            for index, generator in enumerate(self._generators)
        ]
        return (rows[0] if len(rows) == 1 else torch.cat(rows)).to(tensors[0].device)

    def permute(self, func: Callable, *args: Any, **kwargs: Any) -> Tensor:
        """Draw a permutation, which has no batch."""
        self._check(len(self._generators) == 1, func.__name__)
        drawn = func(*args, **{**kwargs, "device": "cpu"}, generator=self._generators[0])
        return drawn.to(kwargs.get("device") or "cpu")

    def _row(self, value: Tensor, index: int) -> Tensor:
        num_rows = len(self._generators)
        if num_rows == 1:
            return value
        self._check(value.dim() > 0 and len(value) % num_rows == 0, f"a draw of shape {tuple(value.shape)}")
        size = len(value) // num_rows
        return value[index * size : (index + 1) * size]

    def _check(self, splits: bool, draw: str) -> None:
        if not splits:
            raise UnsplittableDraw(f"{draw} does not split into {len(self._generators)} rows")


def _new(method: str, make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a draw that fills a new tensor: bit for bit what PyTorch's own function gives."""

    def draw(noise: SeededNoise, func: Callable, *args: Any, **kwargs: Any) -> Tensor:
        del func
        return noise.fill(make(*args, **kwargs), method)

    return draw


def _in_place(noise: SeededNoise, func: Callable, out: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return noise.fill(out, func.__name__, *args, **kwargs)


def _normal(noise: SeededNoise, func: Callable, *args: Any, **kwargs: Any) -> Tensor:
    if len(args) < 3 and "size" not in kwargs:
        return noise.draw_from(func, *args, **kwargs)
    names = ("mean", "std", "size")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    mean, std, size = (given.pop(name) for name in names)
    return noise.fill(torch.empty(size, **given), "normal_", mean, std)


def _integers(noise: SeededNoise, func: Callable, *args: Any, **kwargs: Any) -> Tensor:
    """Draw as `torch.randint([low=0,] high, size)` does."""
    del func
    size = kwargs.get("size", args[-1] if args else ())
    bounds, options = _bounds(args if "size" in kwargs else args[:-1], kwargs)
    return noise.fill(torch.empty(size, **{"dtype": torch.int64, **options}), "random_", *bounds)


def _integers_like(noise: SeededNoise, func: Callable, like: Tensor, *args: int, **kwargs: Any) -> Tensor:
    del func
    bounds, options = _bounds(args, kwargs)
    return noise.fill(torch.empty_like(like, **options), "random_", *bounds)


def _bounds(args: tuple, kwargs: dict[str, Any]) -> tuple[tuple[int, int], dict[str, Any]]:
    """Return the low and high of `[low=0,] high`, given by place or by name, and the other named arguments."""
    low, high = (*(() if len(args) > 1 else (kwargs.get("low", 0),)), *args, *(() if args else (kwargs["high"],)))
    return (low, high), {name: value for name, value in kwargs.items() if name not in ("low", "high", "size")}


_IN_PLACE = ("normal_", "uniform_", "bernoulli_", "exponential_", "random_", "cauchy_", "geometric_", "log_normal_")
_FROM_PARAMETERS = (
    torch.bernoulli,
    torch.binomial,
    torch.multinomial,
    torch.poisson,
    torch._sample_dirichlet,  # pyright: ignore[reportPrivateImportUsage]
    torch._standard_gamma,  # pyright: ignore[reportPrivateImportUsage]
    Tensor.bernoulli,
    Tensor.multinomial,
)
_DRAWS: dict[Callable, Callable[..., Tensor]] = {
    torch.randn: _new("normal_", torch.empty),
    torch.rand: _new("uniform_", torch.empty),
    torch.randn_like: _new("normal_", torch.empty_like),
    torch.rand_like: _new("uniform_", torch.empty_like),
    torch.randint: _integers,
    torch.randint_like: _integers_like,
    torch.normal: _normal,
    torch.randperm: SeededNoise.permute,
    **dict.fromkeys(_FROM_PARAMETERS, SeededNoise.draw_from),
    **{getattr(Tensor, name): _in_place for name in _IN_PLACE},
}
