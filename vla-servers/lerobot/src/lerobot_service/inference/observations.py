"""Windows as arrays that a policy's preprocessor takes: images at its sizes, and the robot's state."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8
from lerobot.utils.constants import OBS_STATE

from lerobot_service.inference.images import resize
from vla_server_base.contract import CameraSpec, Image, PolicyArrays, PolicySpec, Window


class ObservationPreprocessor:
    """Makes of a window one array a feature, with leading axes (1, window).

    `camera_features` are the names of the features that the cameras' images are.
    """

    def __init__(self, spec: PolicySpec, camera_features: Mapping[str, str], *, antialias: bool = False):
        self._cameras = {camera.name: camera for camera in spec.cameras}
        self._camera_features = camera_features
        self._antialias = antialias

    def fit_image(self, camera: str, image: Image) -> UInt8[np.ndarray, "new_height new_width 3"]:
        """Return a large image as small as the policy's own."""
        size = self._cameras[camera]
        return self._resize(image, size) if image.size > 3 * size.height * size.width else image

    def window(self, window: Window) -> PolicyArrays:
        """Return images (uint8) and the state (float32); a camera or state that no timestep has is left out.

        A required camera is in every timestep. Where another one misses a timestep it is black there.
        """
        arrays: dict[str, np.ndarray] = {}
        for name, camera in self._cameras.items():
            seen = [each.images.get(name) for each in window.observations]
            if any(image is not None for image in seen):
                black = np.zeros((camera.height, camera.width, 3), np.uint8)
                images = [black if image is None else self._resize(image, camera) for image in seen]
                arrays[self._camera_features[name]] = np.stack(images)[None]
        states = [each.proprio for each in window.observations if each.proprio is not None]
        if len(states) == len(window.observations):
            arrays[OBS_STATE] = np.stack(states).astype(np.float32)[None]
        return arrays

    def _resize(self, image: Image, camera: CameraSpec) -> UInt8[np.ndarray, "new_height new_width 3"]:
        return resize(image, camera.height, camera.width, antialias=self._antialias)
