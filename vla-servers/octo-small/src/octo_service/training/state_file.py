"""The state of a training run in one safetensors file, so that it continues after an interruption."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from octo_service.checkpoints.weight_file import map_weights, write_weights
from octo_service.errors import CheckpointError
from octo_service.training.optimizer import Moments
from octo_service.training.trainer import TrainState


def save_state(path: Path, state: TrainState) -> None:
    """Write the state; at every moment `path` is absent or whole, and holds the old state or the new one."""
    arrays = {name: np.asarray(leaf) for name, leaf in _named(state)}
    write_weights(Path(path), arrays, {"step": str(state.step), "rng": " ".join(map(str, state.rng))})


def load_state(path: Path, started: TrainState) -> TrainState:
    """Read a state back; `started` is one of the same run, such as its `Trainer.start`.

    Raises:
        CheckpointError: the file is missing or damaged, or of a run that trains other parameters.
    """
    try:
        arrays, metadata = map_weights(Path(path))
        step, rng = int(metadata["step"]), np.array(metadata["rng"].split(), np.uint32)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is not the state of a training run ({error})", hint="start again without it"
        ) from error
    expected = {name: (leaf.shape, leaf.dtype) for name, leaf in _named(started)}
    stored = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    if different := sorted(name for name in expected.keys() | stored if expected.get(name) != stored.get(name)):
        raise CheckpointError(
            f"{path} is of another run: {len(different)} arrays differ ({', '.join(different[:3])}, ...)",
            hint="resume with the model, the mode, the frozen parameters and the averaging that it was started with",
        )
    # Copied: the file is only mapped, and the state's arrays are given up at the next step.
    leaves_by_name = {name: jnp.asarray(np.array(array)) for name, array in arrays.items()}

    def leaves(kind: str) -> dict[str, jax.Array]:
        return {path: leaves_by_name[f"{kind}/{path}"] for path in started.params}

    return TrainState(
        step=step,
        params=leaves("params"),
        moments=Moments(mu=leaves("mu"), nu=leaves("nu")),
        rng=rng,
        averaged=None if started.averaged is None else leaves("averaged"),
    )


def _named(state: TrainState) -> Iterator[tuple[str, jax.Array]]:
    kinds = {"params": state.params, "mu": state.moments.mu, "nu": state.moments.nu, "averaged": state.averaged or {}}
    for kind, leaves in kinds.items():
        for path, leaf in leaves.items():
            yield f"{kind}/{path}", leaf
