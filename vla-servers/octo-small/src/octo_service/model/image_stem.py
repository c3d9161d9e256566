"""Image encoders of few convolutions: pixels to a grid of features.

Follows octo/model/components/vit_encoders.py of octo-models/octo.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from octo_service.model.convolutions import (
    Features,
    Padding,
    Pixels,
    apply_kernel,
    condition,
    convolve,
    normalize_groups,
    normalize_images,
    standardized,
)
from octo_service.model.parameters import Parameters


@dataclass(frozen=True, kw_only=True)
class PatchEncoder:
    """One convolution over patches."""

    use_film: bool = False
    patch_size: int = 32
    num_features: int = 512
    img_norm_type: str = "default"

    def __call__(self, parameters: Parameters, pixels: Pixels, film: Array | None) -> Features:
        """Encode a batch of images, 0..255."""
        x = normalize_images(pixels, self.img_norm_type)
        size = self.patch_size
        x = convolve(parameters / "embedding", x, self.num_features, size, size, "VALID")
        return x if film is None else condition(parameters / "FilmConditioning_0", x, film)


class StemWeights(NamedTuple):
    """The weights of a SmallStem: of each layer the standardized kernel, bias, scale and shift; of the patches."""

    layers: tuple[tuple[Array, Array, Array, Array], ...]
    patches: tuple[Array, Array]


@dataclass(frozen=True, kw_only=True)
class SmallStem:
    """A few standardized convolutions before the patches (Xiao et al. 2021, early convolutions)."""

    use_film: bool = False
    patch_size: int = 32
    kernel_sizes: Sequence[int] = (3, 3, 3, 3)
    strides: Sequence[int] = (2, 2, 2, 2)
    features: Sequence[int] = (32, 96, 192, 384)
    padding: Sequence[int] = (1, 1, 1, 1)
    num_features: int = 512
    img_norm_type: str = "default"

    def __call__(self, parameters: Parameters, pixels: Pixels, film: Array | None) -> Features:
        """Encode a batch of images, 0..255."""
        weights = self.weights(parameters, pixels.shape[-1])
        x = self._encoded(weights, self.first_layer(weights, pixels))
        return x if film is None else condition(parameters / "FilmConditioning_0", x, film)

    def weights(self, parameters: Parameters, num_channels: int) -> StemWeights:
        """Return the standardized weights for images of this many channels."""
        layers = []
        for layer, (size, features) in enumerate(zip(self.kernel_sizes, self.features, strict=False)):
            place, norm = parameters / f"StdConv_{layer}", parameters / f"GroupNorm_{layer}"
            kernel = standardized(place.get("kernel", size, size, num_channels, features))
            after = norm.get("scale", features), norm.get("bias", features)
            layers.append((kernel, place.get("bias", features), *after))
            num_channels = features
        place, size = parameters / "embedding", self.patch_size // 16
        kernel = place.get("kernel", size, size, num_channels, self.num_features)
        return StemWeights(tuple(layers), (kernel, place.get("bias", self.num_features)))

    def first_layer(self, weights: StemWeights, pixels: Pixels) -> Features:
        """Return what the first convolution makes of images with their goals' channels, 0..255."""
        return self._convolved(weights, 0, normalize_images(pixels, self.img_norm_type))

    def encode(self, weights: StemWeights, pixels: Pixels, goal_features: Array) -> Features:
        """Encode a batch of images, 0..255, given without the goals' channels.

        `goal_features` is the `first_layer` of black images with the goals: a convolution is linear in its channels.
        """
        kernel = weights.layers[0][0][:, :, : pixels.shape[-1]]
        black = normalize_images(jnp.zeros((1, 1, 1, pixels.shape[-1]), jnp.float32), self.img_norm_type)
        shade = normalize_images(jnp.ones((1, 1, 1, pixels.shape[-1]), jnp.float32), self.img_norm_type) - black
        image_features = apply_kernel(kernel * shade.reshape(-1, 1), pixels, self.strides[0], self._padding(0))
        return self._encoded(weights, goal_features + image_features)

    def _encoded(self, weights: StemWeights, x: Array) -> Array:
        """Return the patches' features, given the first convolution's output."""
        for layer, (_, _, scale, bias) in enumerate(weights.layers):
            x = self._convolved(weights, layer, x) if layer else x
            x = jax.nn.relu(normalize_groups(x, scale, bias))
        kernel, bias = weights.patches
        return apply_kernel(kernel, x, len(kernel), "VALID") + bias

    def _convolved(self, weights: StemWeights, layer: int, x: Array) -> Array:
        kernel, bias, _, _ = weights.layers[layer]
        return apply_kernel(kernel, x, self.strides[layer], self._padding(layer)) + bias

    def _padding(self, layer: int) -> Padding:
        around = self.padding[layer], self.padding[layer]
        return around, around
