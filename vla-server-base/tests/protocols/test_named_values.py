"""Named values at any depth of a message, and which of several is meant."""

import numpy as np
import pytest

from vla_server_base.errors import ProtocolError
from vla_server_base.protocols.named_values import MAX_KEY_CHARS, MAX_VALUES, is_one_of, named_values, select


def shown(message: dict) -> list[str]:
    return [named.shown for named in named_values(message)]


def test_nested_keys_are_joined_by_dots():
    assert shown({"observation": {"images": {"top": 1}, "state": 2}, "task": "go"}) == [
        "observation.images.top",
        "observation.state",
        "task",
    ]


def test_an_empty_map_is_a_value():
    assert shown({"images": {}}) == ["images"]


def test_maps_below_the_fourth_level_are_values():
    (named,) = named_values({"a": {"b": {"c": {"d": {"e": 1}}}}})
    assert (named.shown, named.value) == ("a.b.c.d", {"e": 1})


def test_a_long_key_is_cut():
    assert [len(key) for key in shown({"k" * 1000: 1})] == [MAX_KEY_CHARS]


def test_more_values_than_any_robot_sends_are_refused():
    assert len(named_values({str(number): number for number in range(MAX_VALUES)})) == MAX_VALUES
    with pytest.raises(ProtocolError, match="more than 1000 named values") as raised:
        named_values({"numbers": {str(number): number for number in range(MAX_VALUES + 1)}})
    assert raised.value.hint == "send numbers as arrays"


def test_a_place_is_exact_with_dots_or_slashes():
    (named,) = named_values({"observation/images": {"top": 1}})
    assert named.is_at("observation.images.top")
    assert named.is_at("observation/images/top")
    assert not named.is_at("top")
    assert named.bare == "top"


def test_of_no_values_none_is_selected():
    assert select([], "the instruction", "instruction") is None


def test_equal_values_are_one():
    image = np.arange(12).reshape(2, 2, 3)
    values = named_values({"top": image, "front": image.copy()})
    assert select(values, "images", "primary") is values[0]
    texts = named_values({"prompt": "go", "task": "go"})
    assert select(texts, "the instruction", "instruction") is texts[0]


def test_cameras_that_clients_send_together_have_an_order():
    values = named_values({"exterior_image_2_left": 2, "exterior_image_1_left": 1})
    assert select(values, "images", "primary").value == 1


def test_values_that_differ_are_refused_with_the_setting_that_decides():
    with pytest.raises(ProtocolError, match="top and front are both images, and differ") as raised:
        select(named_values({"top": np.zeros(3), "front": np.ones(3)}), "images", "primary")
    assert 'VLA_OBSERVATION_KEYS="primary=top"' in raised.value.hint


@pytest.mark.parametrize("value", [np.array(["infer"]), ["infer"], None, 1, "Infer"])
def test_only_text_is_one_of_some_words(value):
    assert is_one_of("infer", ("infer", "reset"))
    assert not is_one_of(value, ("infer", "reset"))
