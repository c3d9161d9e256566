"""Parameters drawn at random, for tests, benchmarks and demonstrations without a checkpoint."""

from collections.abc import Mapping

import numpy as np

from octo_service.model.parameters import Shapes


def random_leaves(shapes: Shapes, seed: int) -> dict[str, np.ndarray]:
    """Draw every leaf, float32: kernels with variance 1 / inputs, norms near one, embeddings small.

    Each leaf has its own generator, so that one more leaf changes no other. The score network of a
    diffusion head gets a path that hands its noisy input through, as a trained one learns to: without it
    the sampler would only ever end at its clipping bounds.
    """
    leaves = {
        path: _random_leaf(path, shape, np.random.default_rng((seed, index)))
        for index, (path, shape) in enumerate(sorted(shapes.items()))
    }
    for path in leaves:
        if path.endswith("reverse_network/Dense_1/kernel"):
            leaves[path] *= np.float32(0.15)
    hand_noise_through(leaves)
    return leaves


def _random_leaf(path: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    name = path.rsplit("/", 1)[-1]
    if name in ("scale", "weight"):
        return np.ones(shape, np.float32)
    if name == "bias":
        return np.zeros(shape, np.float32)
    if name == "kernel":
        # Attention's out kernels are (heads, head_dim, dim); T5 never divides logits by sqrt(head_dim) = 8.
        fan_in = int(np.prod(shape[:-1])) if path.endswith("out/kernel") or len(shape) == 4 else shape[0]
        spread = fan_in**-0.5 * (0.125 if path.endswith("SelfAttention/q/kernel") else 1.0)
    else:
        spread = 1.0 if path.endswith("shared/embedding") or name == "probe" else 0.2
    return random.standard_normal(shape, dtype=np.float32) * np.float32(spread)


def hand_noise_through(leaves: Mapping[str, np.ndarray]) -> None:
    """Let a diffusion head's score network predict 0.95 of its noisy input beside what its weights make of it."""
    for path in [path for path in leaves if path.endswith("reverse_network/Dense_1/kernel")]:
        last = leaves[path]
        first = leaves[path.replace("Dense_1", "Dense_0")]
        width, i = last.shape[1], np.arange(last.shape[1])
        if 2 * width > last.shape[0]:
            continue
        # swish(x) - swish(-x) = x: a pair of hidden units carries each number of the noisy action.
        first[-width + i, 2 * i] += np.float32(1)
        first[-width + i, 2 * i + 1] -= np.float32(1)
        last[2 * i, i] += np.float32(0.95)
        last[2 * i + 1, i] -= np.float32(0.95)
