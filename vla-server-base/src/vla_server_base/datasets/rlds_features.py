"""The features of an RLDS dataset, as `features.json` describes them (feature.proto of tensorflow/datasets)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_server_base.errors import DatasetError

FEATURES = "features.json"


@dataclass(frozen=True, kw_only=True)
class RldsFeature:
    """One value per timestep: `kind` is `tensor`, `image`, `text`, or `other`, which is not read.

    Sides of any size have size 0 in `shape`.
    """

    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    encoding: str = "none"

    @property
    def is_camera(self) -> bool:
        """Whether these are colour images of 8 bits."""
        return self.kind == "image" and (not self.shape or self.shape[-1] != 1) and self.dtype in ("", "uint8")

    @property
    def is_text(self) -> bool:
        """Whether this is a text."""
        return self.kind == "text" or self.dtype == "string"

    @property
    def is_numbers(self) -> bool:
        """Whether these are numbers, the same number of them at each timestep."""
        return self.kind == "tensor" and not self.is_text and all(self.shape)


def read_features(path: Path) -> dict[str, RldsFeature]:
    """Read the features of a timestep by their paths, such as `observation/image`.

    Raises:
        DatasetError: the file is damaged, or describes no steps.
    """
    try:
        features = json.loads(path.read_text())["featuresDict"]["features"]
        steps = features["steps"]["sequence"]["feature"]["featuresDict"]["features"]
        return dict(_flattened(steps, ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path}: expected an RLDS dataset, which has a sequence 'steps' of named features ({error!r})",
            hint="name the folder of an RLDS dataset",
        ) from error


def _flattened(features: Mapping[str, Any], prefix: str) -> list[tuple[str, RldsFeature]]:
    flat = []
    for name, description in features.items():
        if "featuresDict" in description:
            flat += _flattened(description["featuresDict"]["features"], f"{prefix}{name}/")
        else:
            flat.append((f"{prefix}{name}", _feature(description)))
    return flat


def _feature(description: Mapping[str, Any]) -> RldsFeature:
    kind = next((kind for kind in ("tensor", "image", "text") if kind in description), "other")
    details = description.get(kind) or {}
    dimensions = (details.get("shape") or {}).get("dimensions") or ()
    # A side of any size is written as -1, or 0.
    shape = tuple(max(int(size), 0) for size in dimensions)
    return RldsFeature(
        kind=kind, shape=shape, dtype=details.get("dtype", ""), encoding=details.get("encoding") or "none"
    )
