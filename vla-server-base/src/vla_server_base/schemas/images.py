"""Pictures in a request, by the policy's cameras."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from vla_server_base.contract import Image, PolicySpec
from vla_server_base.errors import ImageError
from vla_server_base.images import decode_image
from vla_server_base.schemas.base import Body

MAX_CAMERAS = 64

ByCamera = Annotated[dict[str, str], Field(max_length=MAX_CAMERAS)]
"""Something that is said of the policy's cameras, by their names."""


class PictureFields(Body):
    """What the policy's cameras saw at one timestep."""

    image: str | None = None
    """What the policy's first camera saw, instead of a scene: PNG, JPEG or WebP as base64, or as a data: URL."""
    image_wrist: str | None = None
    """What the camera `wrist` saw."""
    images: ByCamera = Field(default_factory=dict)
    """What cameras saw, by the policy's names for them."""

    @property
    def shows_pictures(self) -> bool:
        """Whether there is any."""
        return self.image is not None or self.image_wrist is not None or bool(self.images)


@dataclass(frozen=True, kw_only=True)
class EncodedPicture:
    """A picture as it was sent, and the field that it came in."""

    field: str
    text: str


def pictures_by_camera(body: Body, spec: PolicySpec, where: str = "", kind: str = "image") -> dict[str, EncodedPicture]:
    """Return the pictures of a kind, `image` or `goal_image`, that a body holds; `where` is what its name begins with.

    Raises:
        ImageError: the policy has no such camera, or two pictures are of one.
    """
    short = {kind: spec.camera_names[0], f"{kind}_wrist": "wrist"}
    given = [(camera, name, getattr(body, name)) for name, camera in short.items() if getattr(body, name) is not None]
    given += [(camera, f"{kind}s.{camera}", text) for camera, text in getattr(body, f"{kind}s").items()]
    found: dict[str, EncodedPicture] = {}
    for camera, name, text in given:
        if camera not in spec.camera_names:
            raise ImageError(
                f"{where}{name[:80]}: this policy has no camera '{camera[:80]}'",
                hint=f"it has: {', '.join(spec.camera_names)}",
            )
        if camera in found:
            both = f"{found[camera].field} and {where}{name}"
            raise ImageError(f"{both} are both of the camera '{camera}'", hint="give one")
        found[camera] = EncodedPicture(field=f"{where}{name}", text=text)
    return found


def decode_pictures(
    pictures: Mapping[str, EncodedPicture], max_pixels: int, fit: Callable[[str, Image], Image]
) -> dict[str, Image]:
    """Return pictures decoded, as small as the policy's own; not for the event loop.

    Raises:
        ImageError: see `decode_image`.
    """
    return {camera: fit(camera, decode_image(each.text, each.field, max_pixels)) for camera, each in pictures.items()}
