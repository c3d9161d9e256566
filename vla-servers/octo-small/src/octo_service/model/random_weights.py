"""`random://octo-small-1.5`: a full architecture with seeded random weights, for tests, benchmarks and demos."""

import hashlib
from urllib.parse import parse_qs, urlsplit

import numpy as np

from octo_service.checkpoints.checkpoint import Checkpoint
from octo_service.errors import ModelConfigError
from octo_service.model.architectures import ARCHITECTURES, Architecture
from octo_service.model.octo_config import build_octo
from octo_service.model.random_leaves import random_leaves
from octo_service.model.shapes import expected_shapes

SCHEME = "random://"

# Moves a few centimetres and degrees a step, as the data does that Octo was trained on; the gripper within 0 to 1.
_STATISTICS = {
    "mean": np.array([0, 0, 0, 0, 0, 0, 0.5], np.float32),
    "std": np.array([0.01, 0.01, 0.01, 0.03, 0.03, 0.03, 0.1], np.float32),
    "mask": np.ones(7, bool),
}


def architecture_named(name: str) -> tuple[Architecture, int]:
    """Return the architecture and the seed that `random://<architecture>[?seed=n]` names (seed 0 by default).

    Raises:
        ModelConfigError: for an architecture that is not known, listing those that are.
    """
    parts = urlsplit(name)
    architecture = ARCHITECTURES.get(parts.netloc)
    seed = parse_qs(parts.query).get("seed", ["0"])[0]
    if architecture is None or not seed.isdecimal():
        known = ", ".join(f"{SCHEME}{known}" for known in ARCHITECTURES)
        raise ModelConfigError(
            f"'{name}' is not known", hint=f"random weights exist for {known}, each with ?seed=<number>"
        )
    return architecture, int(seed)


def random_checkpoint(name: str) -> Checkpoint:
    """Make the checkpoint that `random://<architecture>[?seed=n]` names.

    Raises:
        ModelConfigError: as `architecture_named`.
    """
    architecture, seed = architecture_named(name)
    config, examples = architecture.config(), architecture.example_batch()
    shapes = expected_shapes(build_octo(config["model"]), examples, architecture.text)
    return Checkpoint(
        config=config,
        params=random_leaves(shapes, seed),
        dataset_statistics={"random": {"action": _STATISTICS}},
        example_batch=examples,
        step=0,
        params_hash=hashlib.sha256(f"{name}?{seed}".encode()).hexdigest(),
        statistics_hash=hashlib.sha256(b"random").hexdigest(),
    )
