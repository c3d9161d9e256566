"""An observation in a request: images by camera, and proprio."""

from collections.abc import Sequence
from typing import Annotated, Any

import pydantic
from pydantic import Field

from vla_server_base.contract import PolicySpec
from vla_server_base.errors import RequestError
from vla_server_base.request_inputs import check_num_proprio
from vla_server_base.schemas.base import Body
from vla_server_base.schemas.ranges import ByCamera, Numbers

MAX_PROPRIO = 1e9
"""More than any encoder counts, and little enough that float32 holds what a policy makes of it."""

CameraImage = Annotated[
    str | None,
    Field(
        description="What the policy's first camera saw, instead of a scene: PNG, JPEG or WebP as base64,"
        " or as a data: URL."
    ),
]
WristImage = Annotated[str | None, Field(description="What the camera `wrist` saw.")]
CameraImages = Annotated[ByCamera, Field(description="What cameras saw, by the policy's names for them.")]
IMAGE_FIELDS = ("image", "image_wrist", "images")


class PastObservation(Body):
    """What the robot saw a step earlier, or before that, by at least one of its cameras."""

    image: CameraImage = None
    image_wrist: WristImage = None
    images: CameraImages = Field(default_factory=dict)
    proprio: Numbers | None = None
    """The robot's own state then."""

    @pydantic.model_validator(mode="after")
    def _by_some_camera(self):
        if not has_images(self):
            raise ValueError(f"none of {', '.join(IMAGE_FIELDS)} is given")
        return self


def has_images(body: Any) -> bool:
    """Return whether a body has an image in one of `IMAGE_FIELDS`."""
    return body.image is not None or body.image_wrist is not None or bool(body.images)


def check_proprio(numbers: Sequence[float], spec: PolicySpec, name: str = "proprio") -> None:
    """Refuse proprio of another length than the policy's, or with numbers that no robot has; `name` is the field's.

    Raises:
        RequestError: it names the expected length, or the number.
    """
    check_num_proprio(len(numbers), spec, name)
    for index, number in enumerate(numbers):
        if not abs(number) <= MAX_PROPRIO:
            raise RequestError(
                f"{name}.{index}: expected a number of at most {MAX_PROPRIO:g} in size, got {number:g}",
                hint="send it in the units of the policy's training data",
            )
