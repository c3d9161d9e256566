"""Image encoders: pixels to a grid of features.

Follows octo/model/components/vit_encoders.py and film_conditioning_layer.py of octo-models/octo.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from octo_service.model.parameters import Parameters
from octo_service.model.transformer import dense

Pixels = Float[Array, "images height width channels"]
Features = Float[Array, "images rows columns features"]
Padding = str | tuple[tuple[int, int], tuple[int, int]]


def normalize_images(pixels: Pixels, img_norm_type: str) -> Pixels:
    """Map pixels 0..255 to -1..1 ("default"), or by ImageNet's mean and deviation ("imagenet")."""
    if img_norm_type == "default":
        return pixels / 127.5 - 1.0
    repeats = pixels.shape[-1] // 3
    mean = jnp.tile(jnp.array([0.485, 0.456, 0.406], jnp.float32), repeats)
    deviation = jnp.tile(jnp.array([0.229, 0.224, 0.225], jnp.float32), repeats)
    return (pixels / 255 - mean) / deviation


def convolve(
    parameters: Parameters,
    x: Pixels,
    features: int,
    size: int,
    stride: int = 1,
    padding: Padding = "SAME",
    *,
    standardize: bool = False,
    bias: bool = True,
) -> Features:
    """Convolve with a square kernel; `standardize` gives each output's kernel mean 0 and deviation 1 first."""
    kernel = parameters.get("kernel", size, size, x.shape[-1], features)
    y = _apply(standardized(kernel) if standardize else kernel, x, stride, padding)
    return y + parameters.get("bias", features) if bias else y


def standardized(kernel: Float[Array, "rows columns inputs outputs"]) -> Float[Array, "rows columns inputs outputs"]:
    """Give each output's kernel mean 0 and deviation 1."""
    kernel = kernel - kernel.mean((0, 1, 2))
    return kernel / (kernel.std((0, 1, 2)) + 1e-5)


def _apply(kernel: Array, x: Array, stride: int, padding: Padding) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def group_norm(parameters: Parameters, x: Features) -> Features:
    """Normalize 32 groups of features over the picture, then scale and shift."""
    return _group_norm(x, parameters.get("scale", x.shape[-1]), parameters.get("bias", x.shape[-1]))


def _group_norm(x: Features, scale: Float[Array, " features"], bias: Float[Array, " features"]) -> Features:
    """Normalize with eps 1e-6 and variance E[x²] - E[x]², as in flax."""
    images, rows, columns, features = x.shape
    groups = x.reshape(images, rows, columns, 32, features // 32)
    mean = groups.mean((1, 2, 4), keepdims=True)
    variance = jnp.square(groups).mean((1, 2, 4), keepdims=True) - jnp.square(mean)
    normed = (groups - mean) * jax.lax.rsqrt(jnp.maximum(0.0, variance) + 1e-6)
    return normed.reshape(x.shape) * scale + bias


def condition(parameters: Parameters, x: Features, condition: Float[Array, "images dim"]) -> Features:
    """Scale and shift the features by functions of `condition` (FiLM; the first layer scales)."""
    scale = dense(parameters / "Dense_0", condition, x.shape[-1])[:, None, None]
    shift = dense(parameters / "Dense_1", condition, x.shape[-1])[:, None, None]
    return x * (1 + scale) + shift


@dataclass(frozen=True, kw_only=True)
class PatchEncoder:
    """One convolution over patches."""

    use_film: bool = False
    patch_size: int = 32
    num_features: int = 512
    img_norm_type: str = "default"

    def __call__(self, parameters: Parameters, pixels: Pixels, film: Array | None) -> Features:
        """Encode a batch of pictures, 0..255."""
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
        """Encode a batch of pictures, 0..255."""
        weights = self.weights(parameters, pixels.shape[-1])
        x = self._encoded(weights, self.first_layer(weights, pixels))
        return x if film is None else condition(parameters / "FilmConditioning_0", x, film)

    def weights(self, parameters: Parameters, num_channels: int) -> StemWeights:
        """Return the weights for pictures of so many channels, standardized."""
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
        """Return what the first convolution makes of pictures with their goals' channels, 0..255."""
        return self._convolved(weights, 0, normalize_images(pixels, self.img_norm_type))

    def encode(self, weights: StemWeights, pixels: Pixels, goal_features: Array) -> Features:
        """Encode a batch of images, 0..255, given without the goals' channels.

        `goal_features` is the `first_layer` of black images with the goals: a convolution is linear in its channels.
        """
        kernel = weights.layers[0][0][:, :, : pixels.shape[-1]]
        black = normalize_images(jnp.zeros((1, 1, 1, pixels.shape[-1]), jnp.float32), self.img_norm_type)
        shade = normalize_images(jnp.ones((1, 1, 1, pixels.shape[-1]), jnp.float32), self.img_norm_type) - black
        image_features = _apply(kernel * shade.reshape(-1, 1), pixels, self.strides[0], self._padding(0))
        return self._encoded(weights, goal_features + image_features)

    def _encoded(self, weights: StemWeights, x: Array) -> Array:
        """Return the patches' features, given the first convolution's output."""
        for layer, (_, _, scale, bias) in enumerate(weights.layers):
            x = self._convolved(weights, layer, x) if layer else x
            x = jax.nn.relu(_group_norm(x, scale, bias))
        kernel, bias = weights.patches
        return _apply(kernel, x, len(kernel), "VALID") + bias

    def _convolved(self, weights: StemWeights, layer: int, x: Array) -> Array:
        kernel, bias, _, _ = weights.layers[layer]
        return _apply(kernel, x, self.strides[layer], self._padding(layer)) + bias

    def _padding(self, layer: int) -> Padding:
        around = self.padding[layer], self.padding[layer]
        return around, around


@dataclass(frozen=True, kw_only=True)
class ViTResnet:
    """A ResNet-v2 as in the hybrid vision transformers; FiLM after every stage but the first."""

    use_film: bool = False
    width: int = 1
    num_layers: Sequence[int] = ()
    img_norm_type: str = "default"

    def __call__(self, parameters: Parameters, pixels: Pixels, film: Array | None) -> Features:
        """Encode a batch of pictures, 0..255."""
        width = int(64 * self.width)
        x = normalize_images(pixels, self.img_norm_type)
        x = convolve(parameters / "conv_root", x, width, 7, 2, standardize=True, bias=False)
        x = jax.nn.relu(group_norm(parameters / "gn_root", x))
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        conditioned = 0
        for stage, num_units in enumerate(self.num_layers):
            for unit in range(num_units):
                place = parameters / f"block{stage + 1}" / f"unit{unit + 1}"
                x = _residual_unit(place, x, width * 2**stage, stride=2 if stage and not unit else 1)
            if stage and film is not None:
                x = condition(parameters / f"FilmConditioning_{conditioned}", x, film)
                conditioned += 1
        if not self.num_layers and film is not None:
            x = condition(parameters / "FilmConditioning_0", x, film)
        return x


def _residual_unit(parameters: Parameters, x: Pixels, features: int, stride: int) -> Features:
    def layer(x: Pixels, conv: str, norm: str, features: int, size: int, stride: int = 1) -> Features:
        y = convolve(parameters / conv, x, features, size, stride, standardize=True, bias=False)
        return group_norm(parameters / norm, y)

    residual = x
    if x.shape[-1] != features * 4 or stride != 1:
        residual = layer(x, "conv_proj", "gn_proj", features * 4, 1, stride)
    y = jax.nn.relu(layer(x, "conv1", "gn1", features, 1))
    y = jax.nn.relu(layer(y, "conv2", "gn2", features, 3, stride))
    return jax.nn.relu(residual + layer(y, "conv3", "gn3", features * 4, 1))


ImageEncoder = PatchEncoder | SmallStem | ViTResnet
IMAGE_ENCODERS: dict[str, Callable[..., ImageEncoder]] = {
    "PatchEncoder": PatchEncoder,
    "SmallStem": SmallStem,
    "SmallStem16": functools.partial(SmallStem, patch_size=16),
    "SmallStem32": functools.partial(SmallStem, patch_size=32),
    "ViTResnet": ViTResnet,
    "ResNet26FILM": functools.partial(ViTResnet, use_film=True, num_layers=(2, 2, 2, 2)),
}
