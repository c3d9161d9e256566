"""The keys of a recording: chosen ones have to exist, known names are found, all else is refused with a hint."""

import pytest

from vla_server_base.datasets.keys import camera_name, choose, chosen_keys, named_cameras
from vla_server_base.errors import DatasetError

KNOWN = (("action",), ("position", "rotation"), ("actions",))


def test_chosen_keys_are_kept_in_their_order():
    available = ["a", "b", "action"]
    assert chosen_keys("--action-key", ("b", "a"), KNOWN, available, "folder") == ("b", "a")


@pytest.mark.parametrize(
    ("available", "keys"),
    [
        (["actions", "action"], ("action",)),
        (["rotation", "actions", "position"], ("position", "rotation")),
        (["rotation", "actions"], ("actions",)),
        (["velocity"], ()),
    ],
)
def test_the_first_complete_set_of_known_keys_is_used(available, keys):
    assert chosen_keys("--action-key", (), KNOWN, available, "folder") == keys


def test_an_absent_key_is_refused_with_the_option_and_the_available_keys():
    with pytest.raises(DatasetError, match="folder has no 'torque'") as error:
        chosen_keys("--action-key", ("torque",), KNOWN, ["b", "a"], "folder")
    assert error.value.hint == "choose with --action-key; available: a, b"


def test_a_hint_says_that_nothing_is_available():
    assert choose("--state-key", []) == "choose with --state-key; available: none"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("observation.images.top", "top"),
        ("observation.image", "primary"),
        ("image", "primary"),
        ("wrist_image", "wrist"),
        ("front", "front"),
    ],
)
def test_a_lerobot_feature_names_its_camera(key, name):
    assert camera_name(key) == name


def test_recorded_cameras_get_the_names_of_the_reference():
    keys = ["obs/agentview_image", "obs/robot0_eye_in_hand_image", "obs/front"]
    assert named_cameras({}, keys, "file") == {
        "primary": "obs/agentview_image",
        "wrist": "obs/robot0_eye_in_hand_image",
        "front": "obs/front",
    }


def test_a_second_primary_camera_keeps_its_own_name():
    cameras = named_cameras({}, ["observation/image", "observation/image_0"], "file")
    assert cameras == {"primary": "observation/image", "image_0": "observation/image_0"}


def test_only_the_chosen_cameras_are_read():
    assert named_cameras({"primary": "obs/front"}, ["obs/front", "obs/top"], "file") == {"primary": "obs/front"}
    with pytest.raises(DatasetError, match="file has no images 'obs/back'") as error:
        named_cameras({"primary": "obs/back"}, ["obs/front"], "file")
    assert "--camera primary=" in error.value.hint
