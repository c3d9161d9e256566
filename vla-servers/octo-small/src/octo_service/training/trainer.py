"""Training step by step: a state goes in with a batch, the next state comes out.

Follows TrainState of octo/utils/train_utils.py and `train_step` of scripts/finetune.py.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from octo_service.checkpoints.checkpoint import Checkpoint
from octo_service.checkpoints.stored_params import hash_of
from octo_service.model.noise import next_key
from octo_service.model.octo import Octo
from octo_service.model.parameters import Part
from octo_service.training.losses import Batch, DiffusionDraws, Metrics, draw, loss_fn
from octo_service.training.optimizer import Moments, Optimizer, global_norm
from octo_service.training.parts import summed


class TrainState(NamedTuple):
    """All that changes in training; `params` are the trainable leaves alone, by path."""

    step: int
    params: dict[str, Array]
    moments: Moments
    rng: UInt32[np.ndarray, "2"]
    averaged: dict[str, Array] | None = None
    """The running mean of `params`, where the trainer keeps one."""


class Trainer:
    """Trains one Octo: the leaves of `params` that the optimizer does not freeze.

    ```python
    trainer = Trainer(model.octo, model.checkpoint.params, optimizer)
    state = trainer.start(seed=42)
    for batch in batches:
        state, metrics = trainer.step(state, batch)
    ```

    Where the batches' instructions are embedded already, `params` need not hold the text encoder. Products of
    matrices have the `precision` of jax.default_matmul_precision; below "float32" a GPU is several times faster.
    With `ema_decay` (0.999, say) the state keeps an exponential moving average of the parameters, and `trained`
    returns that. Steps compute a batch in parts of `micro_batch` samples, if that is fewer, and with `remat` the
    transformer's blocks twice: both take less memory, and change what is learned by rounding alone.
    """

    def __init__(
        self,
        octo: Octo,
        params: Mapping[str, np.ndarray],
        optimizer: Optimizer,
        precision: str = "float32",
        ema_decay: float | None = None,
        micro_batch: int | None = None,
        remat: bool = False,
    ):
        self.octo, self.optimizer, self._precision, self._ema_decay = octo, optimizer, precision, ema_decay
        self.micro_batch = micro_batch
        self._initial = {path: leaf for path, leaf in params.items() if optimizer.trains(path)}
        self._frozen = {path: _on_device(leaf) for path, leaf in params.items() if not optimizer.trains(path)}
        self._compiled = jax.jit(
            functools.partial(train_step, octo, optimizer, micro_batch=micro_batch, remat=remat), donate_argnums=(0, 1)
        )
        self._measure = jax.jit(functools.partial(_measure, octo, micro_batch=micro_batch))

    def start(self, seed: int) -> TrainState:
        """Return the state before the first step; the same seed draws the same noise as in the reference."""
        params = {path: _on_device(leaf) for path, leaf in self._initial.items()}
        averaged = None if self._ema_decay is None else {path: _on_device(leaf) for path, leaf in self._initial.items()}
        rng = np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)
        return TrainState(step=0, params=params, moments=self.optimizer.start(params), rng=rng, averaged=averaged)

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Train on one batch; the arrays of `state` are given up to the new one.

        Returns at once, before the device is done. Metrics are the loss's own and grad_norm, update_norm,
        param_norm (over the trainable leaves) and learning_rate.
        """
        rng, step_rng = next_key(state.rng)
        draws = draw(self.octo.heads["action"], step_rng, batch["action"].shape[:2])
        with jax.threefry_partitionable(False), jax.default_matmul_precision(self._precision):
            params, moments, metrics = self._compiled(
                state.params, state.moments, self._frozen, batch, np.int32(state.step), step_rng, draws
            )
        averaged = state.averaged
        if averaged is not None and self._ema_decay is not None:
            averaged = _average(averaged, params, np.int32(state.step), np.float32(self._ema_decay))
        return TrainState(state.step + 1, params, moments, rng, averaged), metrics

    def measure(self, state: TrainState, batch: Batch, rng: UInt32[np.ndarray, "2"]) -> Metrics:
        """Return the loss's metrics of a batch that is not learned from, with the noise of `rng` and no dropout.

        The parameters are the averaged ones where the state has them.
        """
        params = state.params if state.averaged is None else state.averaged
        draws = draw(self.octo.heads["action"], rng, batch["action"].shape[:2])
        with jax.threefry_partitionable(False), jax.default_matmul_precision(self._precision):
            return self._measure(params, self._frozen, batch, rng, draws)


def _measure(
    octo: Octo,
    params: dict[str, Array],
    frozen: dict[str, Array],
    batch: Batch,
    rng: Array,
    draws: DiffusionDraws | None,
    micro_batch: int | None,
) -> Metrics:
    def metrics(batch: Batch, draws: DiffusionDraws | None, part: Part | None, share: Array | float) -> Metrics:
        metrics = loss_fn(octo, {**frozen, **params}, batch, rng, draws, train=False, part=part)[1]
        return {name: value * share for name, value in metrics.items()}

    return _over_parts(metrics, batch, draws, micro_batch)


def train_step(
    octo: Octo,
    optimizer: Optimizer,
    params: dict[str, Array],
    moments: Moments,
    frozen: dict[str, Array],
    batch: Batch,
    step: Array,
    rng: Array,
    draws: DiffusionDraws | None,
    micro_batch: int | None = None,
    remat: bool = False,
) -> tuple[dict[str, Array], Moments, Metrics]:
    """Return the parameters and moments after a step from these, and its metrics."""

    def gradient(batch: Batch, draws: DiffusionDraws | None, part: Part | None, share: Array | float) -> Any:
        def loss(params: dict[str, Array]) -> tuple[Array, Metrics]:
            value, metrics = loss_fn(octo, {**frozen, **params}, batch, rng, draws, part=part, remat=remat)
            return value * share, {name: metric * share for name, metric in metrics.items()}

        return jax.grad(loss, has_aux=True)(params)

    gradients, metrics = _over_parts(gradient, batch, draws, micro_batch)
    updates, moments = optimizer.update(gradients, moments, params, step)
    metrics |= {
        "grad_norm": global_norm(gradients),
        "update_norm": global_norm(updates),
        "param_norm": global_norm(params),
        "learning_rate": optimizer.learning_rate(step),
    }
    return {path: leaf + updates[path] for path, leaf in params.items()}, moments, metrics


def _over_parts(
    of_part: Callable[..., Any], batch: Batch, draws: DiffusionDraws | None, micro_batch: int | None
) -> Any:
    size = len(batch["action"])
    if micro_batch is None or micro_batch >= size:
        return of_part(batch, draws, None, 1)
    return summed(of_part, batch, draws, size // micro_batch)


@functools.partial(jax.jit, donate_argnums=0)
def _average(averaged: dict[str, Array], params: dict[str, Array], step: Array, decay: Array) -> dict[str, Array]:
    # Shorter at first, so that little is left of where the run began.
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return {path: decay * mean + (1 - decay) * params[path] for path, mean in averaged.items()}


def _on_device(leaf: Any) -> Array:
    # Copied first: what is mapped from a file, or the caller's, must not be given up with the state.
    return jnp.asarray(np.array(leaf, np.float32))


def trained(checkpoint: Checkpoint, state: TrainState) -> Checkpoint:
    """Return the checkpoint that training from `checkpoint` has come to: for `OctoModel`, and to be saved.

    Its parameters are the averaged ones where the state has them.
    """
    leaves = state.params if state.averaged is None else state.averaged
    params = {**checkpoint.params, **{path: np.array(leaf) for path, leaf in leaves.items()}}
    return dataclasses.replace(checkpoint, params=params, step=state.step, params_hash=hash_of(params))
