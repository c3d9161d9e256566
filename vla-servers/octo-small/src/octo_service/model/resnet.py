"""The residual network of the hybrid vision transformers.

Follows ViTResnet of octo/model/components/vit_encoders.py of octo-models/octo.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array

from octo_service.model.convolutions import Features, Pixels, condition, convolve, group_norm, normalize_images
from octo_service.model.parameters import Parameters


@dataclass(frozen=True, kw_only=True)
class ViTResnet:
    """A ResNet-v2 as in the hybrid vision transformers; FiLM after every stage but the first."""

    use_film: bool = False
    width: int = 1
    num_layers: Sequence[int] = ()
    img_norm_type: str = "default"

    def __call__(self, parameters: Parameters, pixels: Pixels, film: Array | None) -> Features:
        """Encode a batch of images, 0..255."""
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
