"""Observations to the policy's arrays: images resized, proprio normalized, what is missing masked."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from cachetools import LRUCache, cachedmethod
from jaxtyping import UInt8

from octo_service.preprocessing.content import CONTENT, digest
from octo_service.preprocessing.images import resize_and_crop, resize_lanczos
from octo_service.preprocessing.statistics import Statistics, normalize
from vla_server_base.contract import Image, Observation, PolicyArrays, PolicySpec, Window
from vla_server_base.errors import RequestError

# The camera whose images were cropped in training (the reference's `augmented_keys`).
CROPPED = "primary"
# Deviations from the mean; a number further off is another robot's, or in other units.
FARTHEST_PROPRIO = 1e6
NUM_PREPARED = 64


class ObservationPreprocessor:
    """Prepares observations for a policy of `spec`; each is prepared once. Thread-safe."""

    def __init__(self, spec: PolicySpec, proprios: Mapping[str | None, Statistics], center_crop: bool):
        self._spec, self._proprios, self._center_crop = spec, proprios, center_crop
        self._prepared: LRUCache[bytes, PolicyArrays] = LRUCache(NUM_PREPARED)
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what it is made of, not what it has prepared."""
        return type(self), (self._spec, self._proprios, self._center_crop)

    def fit_image(self, camera: str, image: Image) -> UInt8[np.ndarray, "new_height new_width 3"]:
        """Resize an image that is larger than the policy's own, as `window` would.

        An image that is cropped stays as it is: it is resized and cropped in one step, and rounded once.
        """
        if not self._is_cropped(camera):
            for spec in self._spec.cameras:
                if spec.name == camera and image.size > 3 * spec.height * spec.width:
                    return resize_lanczos(image, spec.height, spec.width)
        return image

    def window(self, window: Window, dataset: str | None = None) -> PolicyArrays:
        """Stack a window: images resized by lanczos, as the reference's wrapper does.

        What a timestep lacks is black, or zero, and masked in its `pad_mask_dict`, as in the reference's data. Proprio
        is normalized by the statistics of `dataset`, if it has some.

        Raises:
            RequestError: the proprio is far from everything in the dataset.
        """
        distinct = {id(step): step for step in window.observations}  # padding repeats the first one
        normalized = {key: self._with_normalized_proprio(step, dataset) for key, step in distinct.items()}
        prepared = {key: self._prepare(_content(step), step) for key, step in normalized.items()}
        steps = [prepared[id(step)] for step in window.observations]
        stacked = jax.tree_util.tree_map(lambda *arrays: np.stack(arrays)[None], *steps)
        return {"timestep_pad_mask": window.timestep_pad_mask[None], **stacked}

    def _is_cropped(self, camera: str) -> bool:
        return self._center_crop and camera == CROPPED

    @cachedmethod(lambda self: self._prepared, lambda _, content, _step: content.tobytes(), lambda self: self._lock)
    def _prepare(self, content: UInt8[np.ndarray, "32"], step: Observation) -> PolicyArrays:
        arrays, is_real = {}, {}
        for camera in self._spec.cameras:
            name, image = f"image_{camera.name}", step.images.get(camera.name)
            is_real[name] = np.array(image is not None)
            black = np.zeros((camera.height, camera.width, 3), np.uint8)
            resize = resize_and_crop if self._is_cropped(camera.name) else resize_lanczos
            arrays[name] = black if image is None else resize(image, camera.height, camera.width)
        if self._spec.proprio_dim is not None:
            is_real["proprio"] = np.array(step.proprio is not None)
            zeros = np.zeros(self._spec.proprio_dim, np.float32)
            arrays["proprio"] = zeros if step.proprio is None else step.proprio
        return {**arrays, "pad_mask_dict": is_real, CONTENT: content}

    def _with_normalized_proprio(self, step: Observation, dataset: str | None) -> Observation:
        statistics = self._proprios.get(dataset or self._spec.default_dataset)
        if step.proprio is None or self._spec.proprio_dim is None:
            return step
        if statistics is None:
            return replace(step, proprio=np.asarray(step.proprio, np.float32))
        proprio = normalize(step.proprio, statistics)
        if (far := np.flatnonzero(statistics.mask & ~(np.abs(proprio) <= FARTHEST_PROPRIO))).size:
            index = int(far[0])
            raise RequestError(
                f"proprio.{index}: got {step.proprio[index]:g}, but the dataset has a mean of"
                f" {statistics.mean[index]:g} and a standard deviation of {statistics.std[index]:g}",
                hint="send it in the units of the policy's training data",
            )
        return replace(step, proprio=proprio)


def _content(step: Observation) -> UInt8[np.ndarray, "32"]:
    return digest(step.images, None if step.proprio is None else step.proprio.tobytes())
