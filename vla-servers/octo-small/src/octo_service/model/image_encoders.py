"""The image encoders by the names that a checkpoint's config gives them."""

import functools
from collections.abc import Callable

from octo_service.model.image_stem import PatchEncoder, SmallStem
from octo_service.model.resnet import ViTResnet

ImageEncoder = PatchEncoder | SmallStem | ViTResnet


IMAGE_ENCODERS: dict[str, Callable[..., ImageEncoder]] = {
    "PatchEncoder": PatchEncoder,
    "SmallStem": SmallStem,
    "SmallStem16": functools.partial(SmallStem, patch_size=16),
    "SmallStem32": functools.partial(SmallStem, patch_size=32),
    "ViTResnet": ViTResnet,
    "ResNet26FILM": functools.partial(ViTResnet, use_film=True, num_layers=(2, 2, 2, 2)),
}
