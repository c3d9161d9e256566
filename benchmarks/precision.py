"""How far the precisions below `highest` are from it: normalized actions of the same windows and seeds.

    cd vla-servers/octo-small && uv run python ../../benchmarks/precision.py [--model random://octo-small-1.5]

Each model sees the same steps of every camera's noise, in sessions that go on, as robots' do. Prints a Markdown table.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from server import add_figures, machine

from octo_service.adapter import OctoSmallAdapter
from octo_service.config import OctoConfig
from octo_service.model import Precision
from vla_server_base.config import ServerConfig
from vla_server_base.contract import Observation, PolicyInput, Task
from vla_server_base.sessions.action_chunking import ObservationWindow

LOWER: tuple[Precision, ...] = ("default", "bf16")
TASK = Task(instruction="pick up the red cube")
EPISODES, STEPS = 4, 6


def main() -> None:
    """Compare every model with itself and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="random://, bundled:// or a folder; may be repeated")
    parser.add_argument("--json", type=Path, help="add all figures to this file")
    arguments = parser.parse_args()
    print(f"{machine()}, device {jax.devices()[0].device_kind}; {EPISODES} episodes of {STEPS} steps.\n")
    print(f"| model | actions deviate by | {' | '.join(f'{name}: most, mean' for name in LOWER)} |\n|---|---|---|---|")
    found = []
    for model in arguments.model or ["random://octo-small-1.5", "bundled://tabletop"]:
        exact = actions(model, "highest")
        errors = {name: np.abs(actions(model, name) - exact) for name in LOWER}
        row = {name: {"most": float(error.max()), "mean": float(error.mean())} for name, error in errors.items()}
        found.append({"model": model, "deviation": float(exact.std()), **row})
        cells = [f"{row[name]['most']:.2g}, {row[name]['mean']:.2g}" for name in LOWER]
        print(f"| {model} | {exact.std():.2f} | {' | '.join(cells)} |", flush=True)
    add_figures(arguments.json, "precision", found)


def actions(model: str, precision: Precision) -> np.ndarray:
    """Return the normalized chunks of all steps of a model that is loaded for it."""
    adapter = OctoSmallAdapter(OctoConfig(precision=precision))
    adapter.load_model(model, "auto", ServerConfig().cache_dir)
    return actions_of(adapter)


def actions_of(adapter: OctoSmallAdapter) -> np.ndarray:
    """Return the normalized chunks of all steps."""
    spec, task = adapter.spec, adapter.preprocess_instruction(TASK)
    random = np.random.default_rng(0)
    chunks = []
    for seed in range(EPISODES):
        history = ObservationWindow(spec.window)
        for step in range(STEPS):
            images = {camera: random.integers(0, 256, (224, 224, 3), np.uint8) for camera in spec.camera_names}
            seen = adapter.preprocess_observation(history.append(Observation(images=images)))
            policy_input = PolicyInput(observation=seen, task=task, seed=seed, step=step)
            chunks += adapter.predict([policy_input])
    return np.stack(chunks)


if __name__ == "__main__":
    main()
