"""The reference, timed for `inference.py`: to be run by the Python of an environment that has octo-models/octo.

Reads one case a line from standard input, as JSON, and answers with the milliseconds of each call, as JSON. Weights are
random, as they are in `inference.py`: no number is asked for, only how long it takes.
"""

# pyright: reportMissingImports=false
# (transformers and octo are in the reference's environment)
import functools
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

SIZES = {"primary": 256, "wrist": 128}
T5_BASE = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12, "vocab_size": 32128}
WARM_UP = 2


def main() -> None:
    """Answer every case."""
    answers = sys.stdout
    sys.stdout = sys.stderr
    sample = sampler(build_model())
    print(json.dumps({"jax": jax.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        case = json.loads(line)
        print(json.dumps(measure(sample, case)), file=answers, flush=True)


def build_model() -> Any:
    """Build Octo-Small 1.5 as its configuration says, without asking a hub for T5's."""
    import transformers
    from octo.model.octo_model import OctoModel

    transformers.AutoConfig.from_pretrained = lambda _: transformers.T5Config(**T5_BASE)
    text = {key: np.ones((1, 16), np.int32) for key in ("input_ids", "attention_mask")}
    goals = {f"image_{name}": np.zeros((1, side, side, 3), np.uint8) for name, side in SIZES.items()}
    example = {
        "observation": observation(2, list(SIZES)),
        "task": {**goals, "language_instruction": text, "pad_mask_dict": {"language_instruction": np.ones(1, bool)}},
    }
    return OctoModel.from_config({"model": json.loads(sys.argv[1])}, example)


def sampler(model: Any) -> Any:
    """Return what its notebook calls, with everything but the observation given."""
    task = dict(model.example_batch["task"])
    return functools.partial(model.sample_actions, tasks=task, rng=jax.random.PRNGKey(0))


def observation(window: int, cameras: list[str]) -> Mapping[str, Any]:
    """Return a window of noise."""
    random = np.random.default_rng(0)
    shapes = {f"image_{name}": (1, window, SIZES[name], SIZES[name], 3) for name in cameras}
    images = {name: random.integers(0, 256, shape, np.uint8) for name, shape in shapes.items()}
    masks = {name: np.ones((1, window), bool) for name in images}
    return {**images, "timestep_pad_mask": np.ones((1, window), bool), "pad_mask_dict": masks}


def measure(sample: Any, case: Mapping[str, Any]) -> dict[str, Any]:
    """Time calls with a case's window and cameras: on the clock, and of the processor."""
    seen = observation(case["window"], case["cameras"])
    found: dict[str, list[float]] = {"ms": [], "cpu_ms": []}
    for call in range(WARM_UP + case["calls"]):
        clock, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(sample(seen))
        if call >= WARM_UP:
            found["ms"].append(1e3 * (time.perf_counter() - clock))
            found["cpu_ms"].append(1e3 * (time.process_time() - cpu))
    return found


if __name__ == "__main__":
    main()
