"""Images are resized as LeRobot's own server resizes them."""

import numpy as np
import pytest
import torch
from lerobot.async_inference.helpers import resize_robot_observation_image

from lerobot_service.inference.images import resize, resize_as_served


@pytest.mark.parametrize("size", [(64, 96), (480, 640), (37, 1001), (720, 48)])
def test_an_image_is_what_lerobots_server_makes_of_it(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    theirs = resize_robot_observation_image(torch.tensor(image), (3, 64, 96))
    assert np.array_equal(resize(image, 64, 96), theirs.permute(1, 2, 0))


def test_with_antialiasing_a_small_image_is_the_average_of_a_large_one():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 240
    aliased, averaged = (resize(stripes, 8, 8, antialias=antialias) for antialias in (False, True))
    assert np.ptp(averaged[:, 1:-1].astype(int)) <= 12
    assert abs(averaged[4, 4, 0] - 60) <= 6
    assert abs(aliased[4, 4, 0].astype(int) - 60) > 30


@pytest.mark.parametrize("antialias", [False, True])
def test_what_is_recorded_is_resized_as_the_service_resizes(antialias, monkeypatch):
    monkeypatch.setenv("LEROBOT_ANTIALIAS", str(antialias).lower())
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    assert np.array_equal(resize_as_served(image, 24, 24), resize(image, 24, 24, antialias=antialias))
