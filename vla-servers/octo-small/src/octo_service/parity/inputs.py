"""The inputs of a golden case, drawn from its JSON description; the same draws made the goldens."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8


def build_inputs(case: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the observation and the arguments of `create_tasks` of a case."""
    task = dict(case["task"])
    if "goals" in task:
        task["goals"] = tree(task["goals"])
    return tree(case["observation"]), task


def image(name: str, height: int, width: int) -> UInt8[np.ndarray, "height width 3"]:
    """Draw an image that depends on nothing but its arguments: gradients, blocks and noise."""
    random = _generator(f"image/{name}/{height}x{width}")
    phase = random.random(6)
    y = (np.arange(height) / height)[:, None]
    x = (np.arange(width) / width)[None, :]
    gradients = np.stack([(y * (1 + c) + x * (2 - c) + phase[c]) % 1.0 for c in range(3)], axis=-1)
    blocks = random.integers(0, 256, (height // 8, width // 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    noise = random.integers(-12, 13, (height, width, 3))
    pixels = np.floor(gradients * 160.0) + np.floor(blocks * 0.35) + noise
    return np.clip(pixels, 0, 255).astype(np.uint8)


def image_windows(name: str, batch: int, window: int, size: int) -> UInt8[np.ndarray, "batch window size size 3"]:
    """Draw windows of square images."""
    return np.stack([[image(f"{name}/b{b}/t{t}", size, size) for t in range(window)] for b in range(batch)])


def goal(name: str, batch: int, size: int) -> UInt8[np.ndarray, "batch size size 3"]:
    """Draw square goal images."""
    return np.stack([image(f"{name}/b{b}/goal", size, size) for b in range(batch)])


def _lowdim(name: str, batch: int, window: int, dim: int, scale: float = 1.0) -> Float[np.ndarray, "batch window dim"]:
    random = _generator(f"lowdim/{name}/{batch}x{window}x{dim}")
    return random.standard_normal((batch, window, dim), dtype=np.float32) * np.float32(scale)


def _normal(name: str, shape: Sequence[int]) -> Float[np.ndarray, "..."]:
    return _generator(f"normal/{name}/" + "x".join(map(str, shape))).standard_normal(tuple(shape), dtype=np.float32)


def _action_pad_mask(
    name: str, shape: Sequence[int], rules: Sequence[Sequence[Any]]
) -> Bool[np.ndarray, "batch window horizon action_dim"]:
    """Mask a row's actions from one of the horizon on, its numbers from one on, or some at random."""
    mask = np.ones(shape, bool)
    for kind, row, value in rules:
        if kind == "horizon":
            mask[row, :, int(value) :] = False
        elif kind == "dim":
            mask[row, ..., int(value) :] = False
        else:
            mask[row] &= _generator(f"padmask/{name}/{row}").random(tuple(shape[1:])) >= value
    return mask


def _generator(name: str) -> np.random.Generator:
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.Philox(key=key))


_FUNCTIONS = {
    "frames": image_windows,
    "goal": goal,
    "lowdim": _lowdim,
    "normal": _normal,
    "padmask": _action_pad_mask,
    "bool": lambda values: np.array(values, bool),
    "float": lambda values: np.array(values, np.float32),
}


def tree(spec: Mapping[str, Any]) -> Any:
    """Draw the arrays that a description, or a tree of them, says."""
    if "fn" not in spec:
        return {key: tree(value) for key, value in spec.items()}
    array = _FUNCTIONS[spec["fn"]](*spec["args"])
    for index, value in spec.get("set", []):
        array[tuple(index)] = value
    array[spec.get("zero_rows", [])] = 0
    assert spec.get("sha", fingerprint(array)) == fingerprint(array), f"{spec} is drawn differently here"
    return array


def fingerprint(array: np.ndarray) -> str:
    """Return 16 hex digits of a hash over type, shape and bytes."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()[:16]
