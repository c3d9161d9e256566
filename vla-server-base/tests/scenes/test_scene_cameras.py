"""Which cameras of a scene stand for the policy's."""

from dataclasses import replace

import mujoco
import pytest

from vla_server_base.errors import SceneError, UnknownName
from vla_server_base.scenes.messages import View, wrist_camera
from vla_server_base.scenes.worker.scene_cameras import camera_name, pick_cameras
from vla_server_base.testing import EchoAdapter


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
    assert pick_cameras(model_with(*scene), View(cameras=wanted)) == picked


@pytest.mark.parametrize(
    ("scene", "wanted", "picked"),
    [
        (("primary", "wrist"), {"top": None, "left_wrist": None}, {"top": 0, "left_wrist": 1}),
        (("front", "hand"), {"top": None, "left_wrist": None}, {"top": 0}),
        (("left_wrist", "wrist", "primary"), {"top": None, "left_wrist": None}, {"top": 2, "left_wrist": 0}),
        (("primary", "wrist"), {"top": None, "left_wrist": "primary"}, {"top": 0, "left_wrist": 0}),
        (("primary", "wrist"), {"top": None, "left_wrist": ""}, {"top": 0}),
        (("primary", "wrist"), {"left_wrist": None}, {"left_wrist": 1}),
    ],
)
def test_a_substitute_stands_for_a_camera_that_the_scene_lacks_and_nobody_chose(scene, wanted, picked):
    view = View(cameras=wanted, substitutes={"left_wrist": "wrist"})
    assert pick_cameras(model_with(*scene), view) == picked


def test_a_scene_without_a_required_camera_is_refused_with_both_lists():
    view = View(cameras={"top": None, "left": None, "right": None}, required=frozenset({"top", "left", "right"}))
    with pytest.raises(SceneError, match="no camera for the policy's left, right, only primary, wrist") as caught:
        pick_cameras(model_with("primary", "wrist"), view)
    assert "`cameras`" in caught.value.hint
    assert "VLA_SCENE_CAMERAS" in caught.value.hint


def test_a_scene_without_cameras_says_how_to_add_one():
    with pytest.raises(SceneError, match="no camera") as caught:
        pick_cameras(model_with(), View(cameras={"primary": None}))
    assert "<camera name=" in caught.value.hint


def test_the_wrists_camera_does_not_stand_for_the_first_one():
    with pytest.raises(SceneError, match="no camera for the policy's 'primary', only wrist"):
        pick_cameras(model_with("wrist"), View(cameras={"primary": None}))


def test_no_other_camera_stands_for_a_first_one_of_the_wrist():
    with pytest.raises(SceneError, match="no camera for the policy's 'left_wrist', only primary"):
        pick_cameras(model_with("primary"), View(cameras={"left_wrist": None}))


@pytest.mark.parametrize(
    ("cameras", "found"),
    [(("hand_wrist", "top"), "hand_wrist"), (("left_wrist", "right_wrist"), None), (("left_wrist", "wrist"), "wrist")],
)
def test_the_only_camera_of_a_wrist_is_found_first_or_not(cameras, found):
    spec = EchoAdapter().spec
    assert wrist_camera(replace(spec, cameras=tuple(replace(spec.cameras[0], name=name) for name in cameras))) == found


def test_a_camera_that_the_scene_lacks_is_refused_with_those_that_it_has():
    with pytest.raises(UnknownName) as caught:
        pick_cameras(model_with("top", ""), View(cameras={"primary": "front"}))
    assert caught.value.hint == "available: top"


def test_a_camera_without_a_name_has_its_number():
    model = model_with("top", "")
    assert [camera_name(model, index) for index in (0, 1)] == ["top", "camera 1"]
