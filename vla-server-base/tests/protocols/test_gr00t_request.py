"""GR00T's messages differ by release: which form a request is in."""

import numpy as np
import pytest

from vla_server_base.errors import ProtocolError
from vla_server_base.protocols.gr00t_request import Gr00tRequest, map_of_values

IMAGE = np.zeros((1, 4, 4, 3), np.uint8)
FLAT = {"video.front": IMAGE, "state.arm": np.zeros((1, 3))}
NESTED = {"video": {"front": IMAGE[None]}, "state": {"arm": np.zeros((1, 1, 3))}}


def request(data: dict) -> Gr00tRequest:
    return Gr00tRequest(endpoint="get_action", data=data, form="npy")


def test_in_n15_the_data_are_the_observation():
    bare = request(FLAT)
    assert bare.is_bare
    assert bare.is_flat
    assert bare.observation is FLAT


@pytest.mark.parametrize(("observation", "is_flat"), [(FLAT, True), (NESTED, False)])
def test_since_n16_the_observation_is_a_field(observation, is_flat):
    later = request({"observation": observation, "options": None})
    assert (later.is_bare, later.is_flat) == (False, is_flat)
    assert later.observation is observation


def test_only_an_observation_without_the_robots_axis_lacks_it():
    assert request(FLAT).lacks_robot_axis
    assert not request({name: value[None] for name, value in FLAT.items()}).lacks_robot_axis
    assert not request({"observation": FLAT}).lacks_robot_axis, "only N1.5's clients leave it out"


@pytest.mark.parametrize("data", [{}, {"observation": [1]}, {"observation": None}])
def test_a_missing_observation_is_refused(data):
    with pytest.raises(ProtocolError, match="observation: expected a map of named values, got"):
        _ = request(data).observation


def test_a_map_is_returned_as_it_is():
    content = {"a": 1}
    assert map_of_values(content, "data") is content
