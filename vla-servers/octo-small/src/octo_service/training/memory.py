"""How much memory a step of training takes, how much there is, and how many samples at a time fit."""

import bisect
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from octo_service.errors import TrainingError
from octo_service.model.octo import Octo
from octo_service.training.fit import Fit
from octo_service.training.losses import draw
from octo_service.training.optimizer import FROZEN_KEYS, Moments, Optimizer
from octo_service.training.trainer import train_step

# What was estimated against what XLA laid out: see docs/training.md.
MARGIN = 1.1


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is trained, on batches like `sample`, of which there is one: shapes are all that counts."""

    octo: Octo
    optimizer: Optimizer
    params: Mapping[str, Any]
    sample: Mapping[str, Any]
    batch_size: int
    averages: bool = False

    def bytes_at_once(self, micro_batch: int, remat: bool) -> int:
        """Estimate the memory of a step that computes this many samples at a time."""
        step, arguments = self._program(micro_batch, remat)
        trained = arguments[0]
        peak = MARGIN * peak_bytes(jax.make_jaxpr(step)(*arguments).jaxpr, donated=3 * len(trained))
        return round(peak) + (_bytes(trained.values()) if self.averages else 0)

    def lower(self, micro_batch: int, remat: bool) -> Any:
        """Return such a step, to be compiled."""
        step, arguments = self._program(micro_batch, remat)
        return jax.jit(step, donate_argnums=(0, 1)).lower(*arguments)

    def _program(self, micro_batch: int, remat: bool) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        params = {path: jax.ShapeDtypeStruct(leaf.shape, np.float32) for path, leaf in self.params.items()}
        trained: Any = {path: leaf for path, leaf in params.items() if self.optimizer.trains(path)}
        frozen = {path: leaf for path, leaf in params.items() if path not in trained}
        mu: Any = {path: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16) for path, leaf in trained.items()}
        batch = jax.tree_util.tree_map(self._of_batch, dict(self.sample))
        rng = np.zeros(2, np.uint32)
        draws = draw(self.octo.heads["action"], rng, batch["action"].shape[:2])
        step = functools.partial(train_step, self.octo, self.optimizer, micro_batch=micro_batch, remat=remat)
        return step, (trained, Moments(mu, nu=trained), frozen, batch, np.int32(0), rng, draws)

    def _of_batch(self, leaf: np.ndarray) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.batch_size, *leaf.shape[1:]), jax.dtypes.canonicalize_dtype(leaf.dtype))


def fitting_micro_batch(step: Step, asked: Fit, free: int | None) -> tuple[int, str]:
    """Return how many samples to compute at a time, and a sentence that says so.

    Raises:
        TrainingError: the requested size does not fit, or does not divide the batch; nothing fits.
    """
    sizes = [size for size in range(1, step.batch_size + 1) if step.batch_size % size == 0]
    if asked.micro_batch is not None and asked.micro_batch not in sizes:
        raise TrainingError(
            f"--micro-batch {asked.micro_batch} does not divide --batch-size {step.batch_size}",
            hint=f"{', '.join(map(str, sizes))} do",
        )
    size = asked.micro_batch or sizes[-1]
    needed = step.bytes_at_once(size, asked.remat)
    if free is not None and needed > free:
        fit = sizes[: bisect.bisect_right(sizes, free, key=lambda size: step.bytes_at_once(size, asked.remat))]
        if asked.micro_batch is not None or not fit:
            raise _too_much(step, asked, size if fit else 1, free, fit)
        size = fit[-1]
        needed = step.bytes_at_once(size, asked.remat)
    of_free = "" if free is None else f" of {_in_words(free)} that are free"
    return size, f"a step takes about {_in_words(needed)}{of_free}: {size} of its {step.batch_size} samples at a time"


def _too_much(step: Step, asked: Fit, size: int, free: int, fit: list[int]) -> TrainingError:
    needed = step.bytes_at_once(size, asked.remat)
    sentence = f"--micro-batch {size} takes about {_in_words(needed)}, and {_in_words(free)} are free"
    if fit:
        return TrainingError(sentence, hint=f"give --micro-batch {fit[-1]}")
    head_only = replace(step, optimizer=replace(step.optimizer, frozen_keys=FROZEN_KEYS["head_only"]))
    others = {
        "--remat": step.bytes_at_once(size, remat=True),
        "--mode head_only": head_only.bytes_at_once(size, asked.remat),
    }
    less = [f"{flag} would take {_in_words(takes)}" for flag, takes in others.items() if takes < needed]
    return TrainingError(sentence, hint=", ".join(less) or "free some memory, or train a smaller policy")


def _in_words(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


def peak_bytes(jaxpr: Any, donated: int = 0) -> int:
    """Return the most bytes that are alive at once while a traced program runs as written, its arguments included.

    The first `donated` arguments are given up once they were read. A compiler does better where it computes several
    operations in one pass, and about as well with what a gradient keeps.
    """
    kept = [*jaxpr.constvars, *jaxpr.invars[donated:]]
    alive = peak = sum(map(_size, [*kept, *jaxpr.invars[:donated]]))
    dies = _last_reads(jaxpr, kept={*kept, *(variable for variable in jaxpr.outvars if not _is_literal(variable))})
    for index, equation in enumerate(jaxpr.eqns):
        made = sum(map(_size, equation.outvars))
        within = max(map(_made_within, _inner(equation)), default=0)
        peak = max(peak, alive + max(made, within))
        alive += made - sum(map(_size, dies.get(index, ())))
    return peak


def _made_within(jaxpr: Any) -> int:
    return peak_bytes(jaxpr) - sum(map(_size, [*jaxpr.constvars, *jaxpr.invars]))


def _last_reads(jaxpr: Any, kept: set[Any]) -> dict[int, list[Any]]:
    """Return, by the number of an equation, what nothing reads after it."""
    last: dict[Any, int] = dict.fromkeys(jaxpr.invars, 0)
    for index, equation in enumerate(jaxpr.eqns):
        read = [variable for variable in equation.invars if not _is_literal(variable)]
        last |= dict.fromkeys([*read, *equation.outvars], index)
    dies: dict[int, list[Any]] = {}
    for variable, index in last.items():
        if variable not in kept:
            dies.setdefault(index, []).append(variable)
    return dies


def _inner(equation: Any) -> Iterator[Any]:
    """Give the programs that an operation is made of: a loop's body, a block that is computed again."""
    for value in equation.params.values():
        for one in value if isinstance(value, (tuple, list)) else [value]:
            inner = getattr(one, "jaxpr", one)
            if hasattr(inner, "eqns"):
                yield inner


def _is_literal(variable: Any) -> bool:
    return hasattr(variable, "val")


def _size(variable: Any) -> int:
    shape, dtype = getattr(variable.aval, "shape", ()), getattr(variable.aval, "dtype", None)
    return int(np.prod(shape)) * getattr(dtype, "itemsize", 0)


def _bytes(leaves: Any) -> int:
    return sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in leaves)
