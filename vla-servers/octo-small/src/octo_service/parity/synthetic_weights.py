"""Deterministic synthetic weights: the goldens were recorded with these, not with trained weights.

Each leaf has its own generator, keyed by its path, and an offset and scale by its kind.
"""

import hashlib
from collections.abc import Mapping

import numpy as np

from octo_service.model.random_leaves import hand_noise_through


def synthetic_parameters(shapes: Mapping[str, tuple[int, ...]], salt: str = "") -> dict[str, np.ndarray]:
    """Return every leaf, float32; the same for the same path, shape and salt on every numpy."""
    leaves = {path: _leaf(path, tuple(shape), salt) for path, shape in shapes.items()}
    hand_noise_through(leaves)
    return leaves


def _leaf(path: str, shape: tuple[int, ...], salt: str) -> np.ndarray:
    key = int.from_bytes(hashlib.sha256((salt + path).encode()).digest()[:8], "little")
    offset, scale = _offset_and_scale(path, shape)
    values = np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, dtype=np.float32)
    values *= np.float32(scale)
    values += np.float32(offset)
    return values


def _offset_and_scale(path: str, shape: tuple[int, ...]) -> tuple[float, float]:
    name = path.rsplit("/", 1)[-1]
    fixed = {"scale": (1.0, 0.1), "weight": (1.0, 0.1), "bias": (0.0, 0.02), "probe": (0.0, 1.0)}
    if name in fixed:
        return fixed[name]
    if name.endswith(("pos_embedding", "pos_embed")) or "time_preprocess" in path:
        return 0.0, 0.2
    if name == "embedding":
        return 0.0, 0.5 if "relative_attention_bias" in path else 1.0
    if "hf_model" in path:
        return 0.0, 1 / np.sqrt(shape[0] * (64.0 if path.endswith("/q/kernel") else 1.0))
    if path.endswith(("query/kernel", "key/kernel")):
        return 0.0, 1.5 / np.sqrt(float(shape[0]))
    if path.endswith("value/kernel"):
        return 0.0, 1 / np.sqrt(float(shape[0]))
    if path.endswith("reverse_network/Dense_1/kernel"):
        return 0.0, 0.15 / np.sqrt(float(shape[0]))
    return 0.0, 1 / np.sqrt(float(np.prod(shape[:-1])))
