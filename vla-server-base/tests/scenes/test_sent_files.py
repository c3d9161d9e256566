"""Paths are names: normalized, joined, and found by their endings, never opened."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_server_base.errors import SceneError
from vla_server_base.scenes.model_files import whole_models
from vla_server_base.scenes.sent_files import SentFiles, base_name, folder_of, joined, normal

PATHS = st.text("ab./\\", max_size=12)


@given(PATHS)
def test_a_normal_path_stays_as_it_is_and_has_steps_up_only_at_its_beginning(path):
    once = normal(path)
    assert normal(once) == once
    parts = [part for part in once.split("/") if part]
    assert "." not in parts
    first_name = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    assert ".." not in parts[first_name:]


@given(PATHS, PATHS)
def test_a_folder_within_a_folder_is_joined_in_any_order(folder, path):
    if not path.startswith(("/", "\\")) and not folder.startswith(("/", "\\")):
        assert joined(folder, path) == normal(f"{normal(folder)}/{path}".lstrip("/"))


@pytest.mark.parametrize(
    ("folder", "path", "place"),
    [
        ("a", "b.obj", "a/b.obj"),
        ("a", "../b.obj", "b.obj"),
        ("a", "/b/c.obj", "b/c.obj"),
        ("a", "C:\\b\\c.obj", "C:/b/c.obj"),
        ("", "../../b.obj", "../../b.obj"),
    ],
)
def test_a_path_is_seen_from_its_folder_unless_it_is_absolute(folder, path, place):
    assert joined(folder, path) == place


def test_a_path_is_a_folder_and_a_name_whichever_slashes_it_has():
    assert (folder_of("a\\b/c.obj"), base_name("a\\b/c.obj")) == ("a/b", "c.obj")
    assert (folder_of("c.obj"), base_name("c.obj")) == ("", "c.obj")


def test_a_file_in_the_first_folder_wins_over_others():
    files = SentFiles(["a/x.obj", "b/x.obj"])
    assert files.find("x.obj", ["b", "a"]) == "b/x.obj"
    assert files.find("x.obj", ["c", "a"]) == "a/x.obj"


def test_a_file_is_found_under_the_name_that_it_was_sent_by():
    assert SentFiles(["./meshes\\x.obj"]).find("meshes/x.obj", [""]) == "./meshes\\x.obj"


def test_what_was_not_sent_is_none_and_what_could_be_several_is_an_error():
    files = SentFiles(["a/x.obj", "b/x.obj"])
    assert files.find("y.obj", [""]) is None
    with pytest.raises(SceneError, match=r"any of a/x\.obj, b/x\.obj"):
        files.find("x.obj", [""])


def test_flat_names_are_plain_distinct_and_stay_the_same():
    files = SentFiles([])
    names = ["a/X.obj", "b/x.obj", "c/${x}.png", "d/<y>", "e/x.obj"]
    flat = [files.flat_name(name) for name in names]
    assert flat == ["X.obj", "2-x.obj", "file.png", "file", "3-x.obj"]
    assert [files.flat_name(name) for name in names] == flat
    assert files.flat_name("a/X.obj", ".xml") == "X.obj.xml", "a model is another file than a mesh"


MODEL, PART = b"<mujoco><worldbody/></mujoco>", b"<mujoco><asset/></mujoco>"


@pytest.mark.parametrize(
    ("files", "whole"),
    [
        ({"a.xml": MODEL, "b.xml": PART}, ["a.xml"]),
        ({"a.xml": b"<mujoco><include file='b.xml'/></mujoco>", "b.xml": MODEL}, ["a.xml"]),
        ({"a.xml": b"<mujoco><worldbody/><asset><model file='b.xml'/></asset></mujoco>", "b.xml": MODEL}, ["a.xml"]),
        ({"a.xml": MODEL, "b.xml": b"not XML", "c.xml": b"<robot/>"}, ["a.xml"]),
        ({"a.xml": b"<!DOCTYPE x><mujoco/>", "b.xml": MODEL}, ["b.xml"]),
        ({"a.xml": b"<mujoco><include file='a.xml'/><worldbody/></mujoco>"}, ["a.xml"]),
        ({"a.xml": MODEL, "b/a.xml": MODEL}, ["a.xml", "b/a.xml"]),
    ],
)
def test_a_whole_model_has_a_world_and_is_no_part_of_another(files, whole):
    assert whole_models(files) == whole
