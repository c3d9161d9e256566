"""Compiles and steps mutated scenes in this very process, for valgrind to watch what MuJoCo reads and writes.

    PYTHONMALLOC=malloc valgrind --undef-value-errors=no python tests/scenes/fuzz_memory.py --scenes 300

Each scene is screened as a worker screens it. Valgrind names the input by what was printed last.
"""

import argparse
import random
from collections import Counter

import mujoco
from mutated_scenes import mutated_scene

from vla_server_base.errors import RequestError
from vla_server_base.scenes.bundle import scene_from_bundle
from vla_server_base.scenes.worker.scene import compile_scene, scene_error
from vla_server_base.scenes.worker.screening import screen

NUM_STEPS = 5


def outcome(seed: int, number: int) -> str:
    """Say what became of an input: a kind of error, or that it was stepped."""
    _, scene = mutated_scene(random.Random(f"{seed}-{number}"))
    try:
        model = compile_scene(screen(scene_from_bundle(scene) if isinstance(scene, bytes) else scene))
        data = mujoco.MjData(model)
        for _ in range(NUM_STEPS):
            mujoco.mj_step(model, data)
    except RequestError as error:
        return error.code
    except (ValueError, MemoryError, mujoco.FatalError) as error:
        return scene_error(error).code
    return "stepped"


def main(arguments: argparse.Namespace) -> None:
    outcomes: Counter = Counter()
    for number in range(arguments.first, arguments.first + arguments.scenes):
        print(f"input {number} of seed {arguments.seed}", flush=True)
        outcomes[outcome(arguments.seed, number)] += 1
    print(dict(outcomes))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    main(parser.parse_args())
