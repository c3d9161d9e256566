"""Which images of a message are only placeholders: openpi's models mark them by masks."""

from collections.abc import Sequence

import numpy as np

from vla_server_base.errors import ProtocolError
from vla_server_base.protocols.known_keys import ALSO_NUMBERS
from vla_server_base.protocols.named_values import NamedValue

_MASKS = ("image_mask", "image_masks")


def without_masked_images(values: Sequence[NamedValue]) -> list[NamedValue]:
    """Return the values that can be images, without those that the message's masks mark as missing.

    Raises:
        ProtocolError: a mask is neither true nor false.
    """
    masked = _masked_names(values)
    return [named for named in values if _can_be_image(named) and named.bare not in masked]


def _can_be_image(named: NamedValue) -> bool:
    value = named.value
    if named.bare in ALSO_NUMBERS:
        return isinstance(value, bytes) or (isinstance(value, np.ndarray) and value.ndim > 1)
    return value is not None


def _masked_names(values: Sequence[NamedValue]) -> set[str]:
    masked: set[str] = set()
    for named in values:
        place, _, name = named.bare.partition(".")
        if place in _MASKS and name:
            mask = np.asarray(named.value) if isinstance(named.value, bool | np.ndarray) else None
            if mask is None or mask.dtype != bool or mask.size != 1:
                raise ProtocolError(f"{named.shown}: expected true or false", hint="send one boolean for each camera")
            if not mask.all():
                masked.add(name)
    return masked
