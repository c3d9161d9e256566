"""Images that a message marks as missing, and values that cannot be images."""

import numpy as np
import pytest

from vla_server_base.errors import ProtocolError
from vla_server_base.protocols.image_masks import without_masked_images
from vla_server_base.protocols.named_values import named_values

IMAGE = np.zeros((4, 4, 3), np.uint8)


def candidates(message: dict) -> set[str]:
    return {named.bare for named in without_masked_images(named_values(message))}


@pytest.mark.parametrize("name", ["image_mask", "image_masks"])
@pytest.mark.parametrize("missing", [False, np.False_, np.array([False])])
def test_a_masked_image_is_missing(name, missing):
    if isinstance(missing, np.generic):
        missing = np.asarray(missing)
    assert candidates({"base": IMAGE, "wrist": IMAGE, name: {"base": True, "wrist": missing}}) >= {"base"}
    assert "wrist" not in candidates({"base": IMAGE, "wrist": IMAGE, name: {"base": True, "wrist": missing}})


@pytest.mark.parametrize("mask", ["no", 0, np.zeros(2, bool), np.zeros(1), None])
def test_a_mask_that_is_not_one_boolean_is_refused(mask):
    with pytest.raises(ProtocolError, match=r"image_mask.wrist: expected true or false") as raised:
        candidates({"wrist": IMAGE, "image_mask": {"wrist": mask}})
    assert raised.value.hint


def test_a_camera_that_is_none_is_missing():
    assert candidates({"base": IMAGE, "wrist": None}) == {"base"}


@pytest.mark.parametrize("opening", [0.5, [0.5], np.array([0.5])])
def test_a_grippers_opening_is_not_its_image(opening):
    assert candidates({"gripper": opening}) == set()


@pytest.mark.parametrize("image", [IMAGE, b"\x89PNG"])
def test_a_grippers_image_is_one(image):
    assert candidates({"gripper": image}) == {"gripper"}
