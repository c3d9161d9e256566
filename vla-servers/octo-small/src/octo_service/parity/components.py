"""Pieces that are recorded by themselves: resizing, token ids, and the image encoders no released model has."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from octo_service.model.image_encoders import IMAGE_ENCODERS
from octo_service.model.parameters import Leaves, declared_shapes, stored
from octo_service.parity.inputs import goal, image, image_windows
from octo_service.parity.measures import Comparison, largest, num_different
from octo_service.parity.synthetic_weights import synthetic_parameters
from octo_service.preprocessing.images import resize_and_crop, resize_lanczos
from octo_service.preprocessing.text import TextTokenizer

# Relative to the largest number; ResNet-26 is the deepest stack.
ENCODER_TOLERANCE = 2e-5


def compare_resize(goldens: Path) -> Iterator[Comparison]:
    """Compare the lanczos resize and the wrapper's crop, in steps of 1 of 255."""
    for key, expected in np.load(goldens / "octo" / "golden_resize.npz").items():
        method, *rest = key.split("/")
        if not method.endswith("_uint8"):
            continue
        height, width = map(int, rest[0].split("x"))
        crop = method == "wrapper_uint8" and rest[1] == "primary"
        resize = resize_and_crop if crop else resize_lanczos
        resized = resize(image("resize", height, width), *expected.shape[:2])
        error = largest(resized.astype(int) - expected)
        yield Comparison(golden="resize", case=" ".join(rest), quantity=method, max_error=error, tolerance=1)


def compare_tokens(goldens: Path, tokenizer: TextTokenizer | None) -> Iterator[Comparison]:
    """Compare the token ids of 42 texts; nothing without T5's own vocabulary, which is not ours to ship."""
    if tokenizer is None:
        return
    for row in json.loads((goldens / "octo" / "golden_tokens.json").read_text())["rows"]:
        tokens = tokenizer.encode([row["text"]])
        different = sum(num_different(tokens[key][0], row[key]) for key in tokens)
        case = repr(row["text"]).replace("|", "\\|")
        yield Comparison(golden="tokens", case=case, quantity="ids that differ", max_error=different, tolerance=0)


def compare_encoders(goldens: Path) -> Iterator[Comparison]:
    """Compare image encoders with and without FiLM, on an image stacked with a goal."""
    folder = goldens / "encoders"
    arrays = np.load(folder / "golden.npz")
    for name, case in json.loads((folder / "cases.json").read_text())["cases"].items():
        features = _encode(name, case).reshape(2, -1)
        scale = float(np.abs(arrays[name]).max())
        error = largest(features[:, :: max(1, features.shape[1] // 500)] - arrays[name]) / scale
        yield Comparison(
            golden="encoders",
            case=name,
            quantity=f"{case['encoder']} [max]",
            max_error=error,
            tolerance=ENCODER_TOLERANCE,
        )


def _encode(name: str, case: Mapping[str, Any]) -> np.ndarray:
    encoder = IMAGE_ENCODERS[case["encoder"]](**case["kwargs"])
    stacked = [image_windows(f"encoders/{name}", 2, 1, case["size"])[:, 0], goal(f"encoders/{name}", 2, case["size"])]
    pixels = jnp.asarray(np.concatenate(stacked, axis=-1), jnp.float32)
    film = None
    if case["film"]:
        generator = np.random.Generator(np.random.Philox(key=5))
        film = jnp.asarray(generator.standard_normal((2, 8), dtype=np.float32))
    shapes = declared_shapes(lambda parameters: encoder(parameters, pixels, film))
    assert len(shapes) == case["num_leaves"], f"{name} has {len(shapes)} parameters, not {case['num_leaves']}"
    leaves = {path: jnp.asarray(leaf) for path, leaf in synthetic_parameters(shapes, f"encoders/{name}").items()}
    return np.asarray(jax.jit(lambda leaves: encoder(stored(Leaves(leaves, {})), pixels, film))(leaves))
