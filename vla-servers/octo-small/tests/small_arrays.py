"""Small arrays of numbers, and a convolution written out in numpy."""

import numpy as np


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def convolved(x: np.ndarray, kernel: np.ndarray, stride: int, around: int) -> np.ndarray:
    """Sum the products of the kernel with each of its places on the images, one after the other."""
    padded = np.pad(x, ((0, 0), (around, around), (around, around), (0, 0)))
    size = len(kernel)
    rows, columns = ((length - size) // stride + 1 for length in padded.shape[1:3])
    out = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            seen = padded[:, i * stride : i * stride + size, j * stride : j * stride + size]
            out[:, i, j] = np.tensordot(seen, kernel, 3)
    return out
