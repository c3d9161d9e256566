"""What an observation or a task is made of, as a digest: the key under which its tokens and KV caches are cached."""

import hashlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8

from vla_server_base.contract import Image

CONTENT = "content"
"""The name under which observations (1, window, 32) and tasks (1, 32) carry the digest of their content."""


def digest(images: Mapping[str, Image], other: object = None) -> UInt8[np.ndarray, "32"]:
    """Name an observation or a task by its content: images by camera, and what the `repr` of `other` distinguishes."""
    hashed = hashlib.sha256(repr(other).encode())
    for name in sorted(images):
        hashed.update(f" {name!r} {images[name].dtype} {images[name].shape} ".encode())
        hashed.update(np.ascontiguousarray(images[name]))
    return np.frombuffer(hashed.digest(), np.uint8)
