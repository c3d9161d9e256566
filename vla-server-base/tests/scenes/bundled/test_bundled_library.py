"""The bundled scenes are found by name, and their text is harmless."""

from xml.etree import ElementTree

import pytest
from bundled_arm import ROBOTS

from vla_server_base.errors import UnknownName
from vla_server_base.scenes.library import bundled_scene, bundled_scenes
from vla_server_base.scenes.messages import Scene
from vla_server_base.scenes.worker.screening import screen

READ_FILES_OR_RUN_CODE = {
    "include",
    "model",
    "attach",
    "plugin",
    "extension",
    "mesh",
    "hfield",
    "composite",
}


def test_both_robots_have_a_tabletop():
    assert bundled_scenes() == {"panda": ("tabletop",), "widowx": ("tabletop",)}


def test_an_unknown_robot_is_answered_with_the_known():
    with pytest.raises(UnknownName) as raised:
        bundled_scene("ur5", "tabletop")
    assert raised.value.code == "unknown_robot"
    assert raised.value.hint is not None
    assert "panda, widowx" in raised.value.hint


@pytest.mark.parametrize("scene", ["kitchen", "", "tabletop.xml", "../panda/tabletop"])
def test_an_unknown_scene_is_answered_with_the_known(scene: str):
    with pytest.raises(UnknownName) as raised:
        bundled_scene("widowx", scene)
    assert raised.value.code == "unknown_scene"
    assert raised.value.hint is not None
    assert "tabletop" in raised.value.hint


@pytest.mark.parametrize("robot", ["..", "panda/..", ""])
def test_a_robot_is_a_name_and_not_a_path(robot: str):
    with pytest.raises(UnknownName):
        bundled_scene(robot, "tabletop")


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_bundled_scene_names_no_file_and_no_plugin(robot: str):
    text = bundled_scene(robot, "tabletop")
    assert "<!DOCTYPE" not in text
    assert text.isascii()
    elements = list(ElementTree.fromstring(text).iter())
    assert not {element.tag for element in elements} & READ_FILES_OR_RUN_CODE
    assert not {name for element in elements for name in element.attrib if "file" in name or "dir" in name} - {
        "dir"  # where a light shines
    }


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_bundled_scene_passes_the_screening_of_strangers_scenes(robot: str):
    screened = screen(Scene(xml=bundled_scene(robot, "tabletop")))
    assert not screened.assets
