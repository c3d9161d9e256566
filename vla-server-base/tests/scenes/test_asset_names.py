"""Files by their paths: as MuJoCo would find them on a disk, and under names that lead nowhere."""

import io
from xml.sax.saxutils import quoteattr

import mujoco
import numpy as np
import pytest
from PIL import Image

from vla_server_base.errors import MissingAsset, SceneError
from vla_server_base.scenes.messages import Scene
from vla_server_base.scenes.worker.screening import screen

TETRAHEDRON = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 1 4 3\n"
PYRAMID = b"v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 4 3\nf 1 2 5\nf 2 3 5\nf 3 4 5\nf 4 1 5\n"
file = io.BytesIO()
Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(file, "png")
PNG = file.getvalue()


def content_of(file: str, assets: dict[str, bytes], compiler: str = "", tag: str = "mesh") -> bytes:
    """What the element gets as its file."""
    xml = f'<mujoco><compiler {compiler}/><asset><{tag} name="n" file="{file}"/></asset></mujoco>'
    (content,) = screen(Scene(xml=xml, assets=assets)).assets.values()
    return content


def compiled(xml: str, assets: dict[str, bytes]) -> mujoco.MjModel:
    screened = screen(Scene(xml=xml, assets=assets))
    assert not any("/" in name for name in screened.assets)
    return mujoco.MjSpec.from_string(screened.xml, assets=dict(screened.assets)).compile()


@pytest.mark.parametrize("file", ["visual/a.obj", "./visual/a.obj", "visual//a.obj", "a.obj"])
def test_a_file_in_a_folder_is_found_by_its_path_or_its_unique_end(file):
    assert content_of(file, {"visual/a.obj": b"1", "visual/ba.obj": b"2", "other.obj": b"3"}) == b"1"


@pytest.mark.parametrize(
    ("tag", "compiler", "expected"),
    [
        ("mesh", "", b"top"),
        ("mesh", 'meshdir="m"', b"mesh"),
        ("mesh", 'meshdir="./m/"', b"mesh"),
        ("mesh", 'texturedir="t"', b"top"),
        ("texture", 'meshdir="m" texturedir="t"', b"texture"),
        ("mesh", 'assetdir="m" texturedir="t"', b"mesh"),
        ("hfield", 'assetdir="t" meshdir="m"', b"mesh"),
        ("texture", 'assetdir="t"', b"texture"),
        ("mesh", 'meshdir="nowhere"', b"top"),
        ("mesh", 'meshdir="/nowhere/m"', b"mesh"),
        ("mesh", 'meshdir="../m"', b"mesh"),
        ("mesh", 'meshdir="C:\\Users\\ann\\m\\"', b"mesh"),
    ],
)
def test_the_compiler_s_folders_are_looked_into_first_as_mujoco_does(tag, compiler, expected):
    assets = {"a.png": b"top", "m/a.png": b"mesh", "t/a.png": b"texture"}
    assert content_of("a.png", assets, compiler, tag) == expected


@pytest.mark.parametrize("compiler", ["", 'meshdir="m"', 'assetdir="m"', 'assetdir="t" meshdir="m"'])
def test_mujoco_left_alone_finds_the_same_file(compiler):
    xml = f"""<mujoco><compiler {compiler}/><asset><mesh name="n" file="a.obj"/></asset>
        <worldbody><geom type="mesh" mesh="n"/></worldbody></mujoco>"""
    assets = {"a.obj": TETRAHEDRON, "m/a.obj": PYRAMID}
    alone = mujoco.MjSpec.from_string(xml, assets=assets).compile()
    assert alone.nmeshvert == compiled(xml, assets).nmeshvert


def test_a_compiler_counts_wherever_it_stands():
    xml = '<mujoco><asset><mesh file="a.obj"/></asset><compiler meshdir="m"/></mujoco>'
    assert list(screen(Scene(xml=xml, assets={"m/a.obj": b"m", "a.obj": b"a"})).assets.values()) == [b"m"]


def test_stripped_paths_are_stripped():
    assert content_of("somewhere/else/a.obj", {"m/a.obj": b"1"}, 'strippath="true" meshdir="m"') == b"1"
    with pytest.raises(MissingAsset):
        content_of("somewhere/else/a.obj", {"m/a.obj": b"1"}, 'strippath="false" meshdir="m"')


def test_a_path_that_could_be_several_files_is_told_with_all_of_them():
    with pytest.raises(SceneError, match=r"line 1: <mesh> .* could be any of left/a.obj, right/a.obj") as caught:
        content_of("a.obj", {"left/a.obj": b"", "right/a.obj": b"", "right/b.obj": b""})
    assert "meshdir" in caught.value.hint


def test_the_longest_ending_is_meant():
    assert content_of("/Users/ann/visual/a.obj", {"visual/a.obj": b"1", "a.obj": b"2", "other/a.obj": b"3"}) == b"1"


def test_a_missing_path_is_told_whole():
    with pytest.raises(MissingAsset, match=r"'visual/a\.obj'") as caught:
        content_of("visual/a.obj", {"b.obj": b"", "collision/a.obj": b""})
    assert caught.value.hint == "assets sent: b.obj, collision/a.obj"


@pytest.mark.parametrize("sent", ["exactly as it is named", "textures/wood.png", "wood.png", "../textures/wood.png"])
@pytest.mark.parametrize(
    "file",
    [
        "/Users/ann/assets/textures/wood.png",
        r"C:\Users\ann\assets\textures/wood.png",
        r"C:\Users\ann\assets\textures\wood.png",
        "../../assets/textures/wood.png",
        "./textures/../../textures/wood.png",
    ],
)
def test_a_path_of_some_machine_is_found_by_its_ending(file, sent):
    sent = file if "exactly" in sent else sent
    assert content_of(file, {sent: PNG, "other/steel.png": b""}, 'texturedir="/Users/ann"', "texture") == PNG


@pytest.mark.parametrize(
    "file",
    [
        *("wood@2x.png", "cup#2.png", "a,b.png", "it's.png", "[part].png", "a&b.png", "k=1.png", "a:b.png"),
        *("tasse_ü.png", "杯.png", ".png", "%2e%2e.png", "~a.png", "a\nb.png", "a?b*|<c>.png", "a" * 300 + ".png"),
    ],
)
def test_a_file_may_have_any_name(file):
    xml = f"""<mujoco><asset><texture name="t" type="2d" file={quoteattr(file)}/></asset>
        <asset><material name="m" texture="t"/></asset><worldbody><geom size="1" material="m"/></worldbody></mujoco>"""
    assert compiled(xml, {file: PNG, f"else/{file}": b"no image"}).ntex == 1


def test_two_paths_are_not_one_file_that_is_named_by_less():
    meshes = '<mesh name="v" file="/x/visual/a.obj"/><mesh name="c" file="/x/collision/a.obj"/>'
    xml = f"<mujoco><asset>{meshes}</asset></mujoco>"
    with pytest.raises(SceneError, match=r"ends as '.*visual/a.obj' does, and only 'a.obj' was sent") as caught:
        screen(Scene(xml=xml, assets={"a.obj": b""}))
    assert caught.value.hint == "send both files, each by more of its path"


def test_files_of_one_name_in_several_folders_stay_apart():
    xml = """<mujoco><asset>
        <mesh name="one" file="left/part.obj"/><mesh name="two" file="right/Part.obj"/>
        <mesh name="three" file="left/part.obj"/></asset>
        <worldbody><geom type="mesh" mesh="one"/><geom type="mesh" mesh="two"/></worldbody></mujoco>"""
    model = compiled(xml, {"left/part.obj": TETRAHEDRON, "right/Part.obj": PYRAMID})
    assert [model.mesh(name).vertnum.item() for name in ("one", "two", "three")] == [4, 5, 4]


def test_what_has_no_name_keeps_the_one_it_has_from_its_file():
    xml = """<mujoco><asset>
        <mesh file="left/part.v1.obj"/><mesh name="own" file="right/part.v1.obj"/><mesh name="" file="up/arm.obj"/>
        <hfield file="part.v1.png" size="1 1 1 1"/><texture file="t/part.v1.png" type="2d"/>
        <texture file="u/PART.v1.png" type="2d"/><material name="m" texture="part.v1"/></asset>
        <worldbody><geom type="mesh" mesh="part.v1" material="m"/><geom type="hfield" hfield="part.v1"/>
        <geom type="mesh" mesh="arm"/></worldbody></mujoco>"""
    meshes = {"left/part.v1.obj": TETRAHEDRON, "right/part.v1.obj": PYRAMID, "up/arm.obj": PYRAMID}
    images = {"part.v1.png": PNG, "t/part.v1.png": PNG, "u/PART.v1.png": PNG}
    model = compiled(xml, meshes | images)
    assert [model.mesh(i).name for i in range(model.nmesh)] == ["part.v1", "own", "arm"]
    assert sorted(model.tex(i).name for i in range(model.ntex)) == ["PART.v1", "part.v1"]
    assert model.hfield(0).name == "part.v1"


def test_the_six_sides_of_a_cube_may_lie_in_folders():
    sides = ("right", "left", "up", "down", "front", "back")
    files = " ".join(f'file{side}="{side}/side.png"' for side in sides)
    xml = f'<mujoco><asset><texture name="sky" type="skybox" {files}/></asset></mujoco>'
    assert compiled(xml, {f"{side}/side.png": PNG for side in sides}).ntex == 1


def test_every_element_still_stays_on_its_line():
    xml = '<mujoco>\n<asset>\n\n<mesh name="n"\n file="a/b.obj"/> <mesh name="o" file="b.obj"/>\n</asset></mujoco>'
    screened = screen(Scene(xml=xml, assets={"a/b.obj": b""}))
    assert screened.xml.split("\n")[3] == '<mesh name="n" file="b.obj"></mesh>'
    assert screened.xml.split("\n")[4].startswith('<mesh name="o" file="b.obj"></mesh>')
    assert screen(Scene(xml=screened.xml, assets=screened.assets)) == screened
