"""Octo in plain JAX: the reference's class and semantics, without flax, orbax, TensorFlow or transformers."""

import importlib
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from octo_service.model.octo_model import OctoModel

Precision = Literal["highest", "default", "bf16"]
"""How matrices are multiplied: in float32, as the device does by default, or in bfloat16 with sums in float32."""

__all__ = ["OctoModel", "Precision"]


def __getattr__(name: str) -> Any:
    # `OctoModel` imports JAX, which takes seconds: a command's `--help` reads `Precision` alone.
    if name == "OctoModel":
        return importlib.import_module("octo_service.model.octo_model").OctoModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
