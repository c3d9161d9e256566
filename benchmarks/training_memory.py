"""How much memory a step of training takes, by what is trained and how many samples are computed at a time.

    cd vla-servers/octo-small && uv run python ../../benchmarks/training_memory.py [--xla 1 4]

Nothing is computed: the step is traced, and for the sizes of `--xla` compiled for this machine; in parentheses is what
the compiler then laid out. Windows of 2 with both cameras and goal images. Prints Markdown, in GB.
"""

import argparse
import functools
from typing import Any

import numpy as np
from server import machine

from octo_service.model import t5
from octo_service.model.octo_config import build_octo
from octo_service.model.random_weights import random_checkpoint
from octo_service.training.memory import MARGIN, Step
from octo_service.training.optimizer import FROZEN_KEYS, create_optimizer

MODES = {**FROZEN_KEYS, "frozen_transformer": (*FROZEN_KEYS["full"], "*BlockTransformer_0*")}
RATE = {"name": "constant", "peak_value": 1e-4, "warmup_steps": 0}


def main() -> None:
    """Print a row for each mode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="random://octo-small-1.5")
    parser.add_argument("--modes", nargs="*", default=["full", "frozen_transformer", "head_only"], choices=MODES)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 4, 16, 64, 256], help="samples at a time")
    parser.add_argument("--xla", type=int, nargs="*", default=[], help="sizes to compile: each takes half a minute")
    arguments = parser.parse_args()
    print(f"{machine()}; {arguments.model}.\n")
    print(f"| `--mode` | {' | '.join(map(str, arguments.sizes))} |\n|{'---|' * (1 + len(arguments.sizes))}")
    for mode in arguments.modes:
        for remat in (False, True):
            cells = []
            for size in arguments.sizes:
                step = step_of(arguments.model, mode, size)
                laid_out = f" ({compiled_bytes(step, remat) / 1e9:.2f})" if size in arguments.xla else ""
                cells.append(f"{step.bytes_at_once(size, remat) / MARGIN / 1e9:.2f}{laid_out}")
            print(f"| `{mode}`{', `--remat`' if remat else ''} | {' | '.join(cells)} |", flush=True)


@functools.cache
def policy(model: str) -> Any:
    """Draw a policy's parameters once."""
    return random_checkpoint(model)


def step_of(model: str, mode: str, size: int) -> Step:
    """Return a step on a batch of `size` samples."""
    checkpoint = policy(model)
    octo, example = build_octo(checkpoint.config["model"]), checkpoint.example_batch
    optimizer = create_optimizer({"frozen_keys": MODES[mode], "learning_rate": RATE})
    head, observation, task = octo.heads["action"], example["observation"], example["task"]
    window = observation["timestep_pad_mask"].shape[1]
    actions = (1, window, head.action_horizon, head.action_dim)
    width = checkpoint.params[t5.EMBEDDING].shape[1]
    pictures = {name: task[name] for name in octo.task_names(task) if name.startswith("image_")}
    sample = {
        "observation": {
            name: observation[name] for name in [*octo.observation_names(observation), "timestep_pad_mask"]
        },
        "task": {"language_instruction": np.zeros((1, 16, width), np.float32), **pictures},
        "action": np.zeros(actions, np.float32),
        "action_pad_mask": np.ones(actions, bool),
    }
    params = {path: leaf for path, leaf in checkpoint.params.items() if not path.startswith(t5.ROOT)}
    return Step(octo=octo, optimizer=optimizer, params=params, sample=sample, batch_size=size)


def compiled_bytes(step: Step, remat: bool) -> int:
    """Return what the compiler laid out for the step on this machine."""
    compiled = step.lower(step.batch_size, remat).compile()
    stats = compiled.memory_analysis()
    arguments = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    return stats.temp_size_in_bytes + arguments


if __name__ == "__main__":
    main()
