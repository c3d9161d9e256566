"""What image encoders are made of: convolutions, group norms, FiLM.

Follows octo/model/components/vit_encoders.py and film_conditioning_layer.py of octo-models/octo.
"""

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
    y = apply_kernel(standardized(kernel) if standardize else kernel, x, stride, padding)
    return y + parameters.get("bias", features) if bias else y


def standardized(kernel: Float[Array, "rows columns inputs outputs"]) -> Float[Array, "rows columns inputs outputs"]:
    """Give each output's kernel mean 0 and deviation 1."""
    kernel = kernel - kernel.mean((0, 1, 2))
    return kernel / (kernel.std((0, 1, 2)) + 1e-5)


def apply_kernel(kernel: Array, x: Array, stride: int, padding: Padding) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def group_norm(parameters: Parameters, x: Features) -> Features:
    """Normalize 32 groups of features over the image, then scale and shift."""
    return normalize_groups(x, parameters.get("scale", x.shape[-1]), parameters.get("bias", x.shape[-1]))


def normalize_groups(x: Features, scale: Float[Array, " features"], bias: Float[Array, " features"]) -> Features:
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
