"""Which cameras of a scene stand for the policy's."""

import mujoco
import pytest

from vla_server_base.errors import SceneError, UnknownName
from vla_server_base.scenes.worker.scene_cameras import camera_name, pick_cameras


def model_with(*cameras: str) -> mujoco.MjModel:
    elements = "".join(f'<camera name="{name}"/>' if name else "<camera/>" for name in cameras)
    return mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{elements}</worldbody></mujoco>")


@pytest.mark.parametrize(
    ("scene", "wanted", "picked"),
    [
        (("primary", "wrist"), {"primary": None, "wrist": None}, {"primary": 0, "wrist": 1}),
        (("wrist", "primary"), {"primary": None, "wrist": None}, {"primary": 1, "wrist": 0}),
        (("top", "side"), {"primary": None, "wrist": None}, {"primary": 0}),
        (("top", "primary"), {"base": None}, {"base": 1}),
        (("wrist", "top"), {"primary": None}, {"primary": 1}),
        (("left", "top"), {"base": None, "left": None}, {"base": 1, "left": 0}),
        (("top", "side"), {"primary": "side"}, {"primary": 1}),
        (("primary", "wrist"), {"primary": None, "wrist": ""}, {"primary": 0}),
        (("", "wrist"), {"primary": None}, {"primary": 0}),
    ],
)
def test_a_camera_is_picked_by_choice_by_name_or_for_the_first_one_by_what_is_left(scene, wanted, picked):
    assert pick_cameras(model_with(*scene), wanted) == picked


def test_a_scene_without_cameras_says_how_to_add_one():
    with pytest.raises(SceneError, match="no camera") as caught:
        pick_cameras(model_with(), {"primary": None})
    assert "<camera name=" in caught.value.hint


def test_the_wrists_camera_does_not_stand_for_the_first_one():
    with pytest.raises(SceneError, match="no camera for the policy's 'primary', only wrist"):
        pick_cameras(model_with("wrist"), {"primary": None})


def test_a_camera_that_the_scene_lacks_is_refused_with_those_that_it_has():
    with pytest.raises(UnknownName) as caught:
        pick_cameras(model_with("top", ""), {"primary": "front"})
    assert caught.value.hint == "available: top"


def test_a_camera_without_a_name_has_its_number():
    model = model_with("top", "")
    assert [camera_name(model, index) for index in (0, 1)] == ["top", "camera 1"]
