"""What a stranger's XML may say, and how the stranger is told what it may not."""

import re
import struct
import subprocess
import sys

import mujoco
import pytest
from mujoco_schema import attributes_by_element, schema

from vla_server_base.errors import MissingAsset, SceneError, SceneRefused
from vla_server_base.scenes import limits
from vla_server_base.scenes.messages import Scene
from vla_server_base.scenes.worker.asset_names import FILE_ATTRIBUTES
from vla_server_base.scenes.worker.element_checks import REFUSED_ELEMENTS
from vla_server_base.scenes.worker.schema import ATTRIBUTES
from vla_server_base.scenes.worker.screening import DROPPED_ATTRIBUTES, screen


def in_world(text: str) -> Scene:
    return Scene(xml=f"<mujoco>\n<worldbody>\n{text}\n</worldbody></mujoco>")


def test_every_element_stays_on_its_line_and_says_the_same():
    xml = """<?xml version="1.0"?>
<!-- a comment
     of two lines -->
<mujoco model="a &amp; b">
  <worldbody>  <geom size="1"
       rgba="1 0 0 1"/>
    <body name="&#228; &quot;&lt;"/>
  </worldbody>
</mujoco>"""
    screened = screen(Scene(xml=xml))
    lines = screened.xml.split("\n")
    assert lines[3] == '<mujoco model="a &amp; b">'
    assert lines[4] == '<worldbody><geom size="1" rgba="1 0 0 1"></geom>'
    assert lines[6].startswith("<body name='ä \"&lt;'>")
    assert screen(Scene(xml=screened.xml)) == screened


def test_malformed_xml_is_told_with_line_and_column():
    with pytest.raises(SceneError, match=r"malformed at line 2, column 5: mismatched tag") as caught:
        screen(Scene(xml="<mujoco>\n  </body>"))
    assert caught.value.code == "scene_invalid"


@pytest.mark.parametrize("xml", ["", "   ", "not xml", "<mujoco>", "<mujoco>\0</mujoco>", "<mujoco a=1/>", "\ud800"])
def test_what_is_no_xml_is_malformed(xml):
    with pytest.raises(SceneError, match="malformed"):
        screen(Scene(xml=xml))


def test_the_root_must_be_mujoco():
    with pytest.raises(SceneRefused, match="root element is <robot>"):
        screen(Scene(xml="<robot name='a'><link name='b'/></robot>"))


@pytest.mark.parametrize("tag", sorted(REFUSED_ELEMENTS))
def test_elements_that_read_files_or_run_code_are_refused_with_their_line(tag):
    with pytest.raises(SceneRefused, match=f"line 3: <{tag}> is not supported") as caught:
        screen(in_world(f'<{tag} file="a.xml" name="a" plugin="b"/>'))
    assert caught.value.hint


def test_a_namespace_does_not_hide_an_include():
    with pytest.raises(MissingAsset, match="<include>"):
        screen(in_world('<include xmlns="x" file="/etc/passwd"/>'))


@pytest.mark.parametrize(
    "document",
    [
        '<!DOCTYPE a [<!ENTITY x "y">]><mujoco/>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><mujoco>&x;</mujoco>',
        '<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><mujoco/>',
    ],
)
def test_document_types_and_their_entities_are_refused(document):
    with pytest.raises(SceneRefused, match="document type"):
        screen(Scene(xml=document))


@pytest.mark.parametrize("attribute", sorted(FILE_ATTRIBUTES))
@pytest.mark.parametrize("value", ["", ".", "..", "a/", "a/..", "a\\"])
def test_a_path_that_ends_in_no_name_is_refused(attribute, value):
    xml = f'<mujoco>\n<asset><texture type="cube" {attribute}="{value}"/></asset></mujoco>'
    with pytest.raises(SceneRefused, match=r"line 2: .* is not a plain file name"):
        screen(Scene(xml=xml, assets={value: b""}))


@pytest.mark.parametrize("attribute", sorted(FILE_ATTRIBUTES))
@pytest.mark.parametrize("value", ["/etc/passwd", "../../etc/passwd", "C:/a.png", "file:///etc/passwd"])
def test_a_path_of_the_server_s_disk_is_missed_as_any_other(attribute, value):
    xml = f'<mujoco>\n<asset><texture type="cube" {attribute}="{value}"/></asset></mujoco>'
    with pytest.raises(MissingAsset, match=f"line 2: <texture> names the asset '{value}'"):
        screen(Scene(xml=xml, assets={"b.png": b""}))


def test_an_asset_that_was_not_sent_is_missed_by_name_beside_those_that_were():
    xml = '<mujoco><asset>\n<mesh file="arm.obj"/></asset></mujoco>'
    with pytest.raises(MissingAsset, match=r"line 2: <mesh> names the asset 'arm.obj'") as caught:
        screen(Scene(xml=xml, assets={"leg.obj": b"", "hand.obj": b""}))
    assert caught.value.hint == "assets sent: hand.obj, leg.obj"


def test_all_assets_that_were_not_sent_are_named_at_once():
    xml = """<mujoco><include file="arm.xml"/><asset>
        <mesh file="a.stl"/><mesh file="b.stl"/><mesh name="again" file="a.stl"/><mesh file="c.stl"/>
        <texture type="cube" fileup="/Users/ann/up.png" filedown="down.png"/></asset></mujoco>"""
    with pytest.raises(MissingAsset, match="names 5 assets that the request does not carry") as caught:
        screen(Scene(xml=xml, assets={"b.stl": b""}))
    for message in (
        "'arm.xml' (line 1)",
        "'a.stl' (line 2)",
        "'c.stl' (line 2)",
        "'/Users/ann/up.png' (line 3)",
        "'down.png'",
    ):
        assert message in caught.value.message


def test_a_scene_without_files_is_told_how_they_come():
    with pytest.raises(MissingAsset) as caught:
        screen(Scene(xml='<mujoco><asset><mesh file="a.stl"/></asset></mujoco>'))
    assert caught.value.hint.startswith("assets sent: none; send them as assets by these names, or zip")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\xff\xd8\xff\xe0" + bytes(100), "JPEG"),
        (b"RIFF\x08\0\0\0WEBPVP8 ", "WebP"),
        (b"GIF89a" + bytes(10), "GIF"),
        (b"BM" + bytes(60), "BMP"),
        (b"II*\0" + bytes(10), "TIFF"),
    ],
)
def test_an_image_that_mujoco_does_not_read_is_told_how_to_convert_it(content, kind):
    xml = '<mujoco><asset>\n<texture type="2d" file="tex/wood.v2.jpg"/></asset></mujoco>'
    with pytest.raises(SceneError, match=f"line 2: <texture> names 'tex/wood.v2.jpg', which is a {kind}") as caught:
        screen(Scene(xml=xml, assets={"tex/wood.v2.jpg": content}))
    assert "save('wood.v2.png')" in caught.value.hint


def test_only_named_assets_reach_mujoco_and_folders_are_forgotten():
    xml = (
        '<mujoco><compiler meshdir="/etc" texturedir=".." assetdir="a" strippath="true" angle="radian"/>'
        '<asset><mesh file="arm v1.obj"/></asset></mujoco>'
    )
    screened = screen(Scene(xml=xml, assets={"arm v1.obj": b"1", "leg.obj": b"2"}))
    assert screened.assets == {"arm v1.obj": b"1"}
    assert '<compiler angle="radian">' in screened.xml


def test_a_scene_of_too_many_assets_is_refused():
    assets = {f"{number}.obj": b"" for number in range(limits.MAX_ASSETS + 1)}
    with pytest.raises(SceneRefused, match="2001 assets; the limit is 2000"):
        screen(Scene(xml="<mujoco/>", assets=assets))


def test_a_scene_of_more_than_2_mb_is_refused():
    with pytest.raises(SceneRefused, match="2000017 bytes"):
        screen(Scene(xml="<mujoco>" + " " * 2_000_000 + "</mujoco>"))


@pytest.mark.parametrize(
    ("scene", "what"),
    [
        ("<geom size='1'/>" * 20_001, "elements"),
        ("<body>" * 301 + "</body>" * 301, "levels"),
        ("<replicate count='2147483647'><geom size='1'/></replicate>", "replicas"),
        ("<replicate count='100'>" * 3 + "<geom size='1'/>" + "</replicate>" * 3, "replicas"),
        ("<replicate count='3000'>" + "<geom size='1'/>" * 10 + "</replicate>", "elements"),
        ("<flexcomp name='f' type='grid' count='60 60 60'/>", "points in flexcomps"),
        ("<flexcomp name='f' type='grid' count='100000 0 100000'/>", "points in flexcomps"),
        ("<replicate count='50'><flexcomp name='f' type='grid' count='6 6 6'/></replicate>", "points in flexcomps"),
    ],
)
def test_scenes_that_multiply_are_refused(scene, what):
    with pytest.raises(SceneRefused, match=f"line 3: this makes .* {what}"):
        screen(in_world(scene))


@pytest.mark.parametrize(
    ("element", "attribute"),
    [
        ("<size nkey='2000000000'/>", "nkey"),
        ("<size memory='100G'/>", "memory"),
        ("<size memory='2000M'/>", "memory"),
        ("<size nuser_geom='2e9'/>", "nuser_geom"),
        ("<size njmax='2000000000'/>", "njmax"),
        ("<option iterations='2000000000'/>", "iterations"),
        ("<visual><quality numslices='3000'/></visual>", "numslices"),
        ("<visual><quality shadowsize='65536'/></visual>", "shadowsize"),
        ("<visual><global offwidth='100000'/></visual>", "offwidth"),
        ("<asset><texture builtin='flat' width='50000' height='50000'/></asset>", "width"),
        ("<default><texture width='50000'/></default>", "width"),
        ("<asset><hfield nrow='46341' ncol='46341' size='1 1 1 1'/></asset>", "nrow"),
        ("<asset><mesh builtin='supersphere' params='10000 1 1'/></asset>", "params"),
        ("<worldbody><camera resolution='20000 20000'/></worldbody>", "resolution"),
        ("<sensor><user dim='2000000000'/></sensor>", "dim"),
        ("<custom><numeric size='2000000000'/></custom>", "size"),
    ],
)
def test_numbers_beyond_their_cap_are_refused_with_the_reason(element, attribute):
    with pytest.raises(SceneRefused, match=f'line 1: {attribute}=".*" .* is more than') as caught:
        screen(Scene(xml=f"<mujoco>{element}</mujoco>"))
    assert len(caught.value.hint or "") > 10


@pytest.mark.parametrize(
    ("element", "attribute"),
    [
        ("<actuator><motor joint='j' delay='-1' nsample='-7'/></actuator>", "delay"),
        ("<actuator><motor joint='j' nsample='-2147483648'/></actuator>", "nsample"),
        ("<sensor><jointpos joint='j' nsample='-1'/></sensor>", "nsample"),
        ("<default><general nsample='-1'/></default>", "nsample"),
        ("<actuator><general joint='j' actdim='-2'/></actuator>", "actdim"),
        ("<size nuserdata='-5'/>", "nuserdata"),
        ("<size nuser_geom='-2'/>", "nuser_geom"),
        ("<asset><texture builtin='flat' width='-4' height='-4'/></asset>", "width"),
        ("<asset><texture nchannel='-1'/></asset>", "nchannel"),
        ("<asset><mesh name='m' face='0 1 -2147483648'/></asset>", "face"),
        ("<worldbody><geom group='-1' size='1'/></worldbody>", "group"),
        ("<worldbody><camera resolution='-1 4'/></worldbody>", "resolution"),
        ("<sensor><user dim='-1'/></sensor>", "dim"),
        ("<custom><numeric name='n' size='-1'/></custom>", "size"),
    ],
)
def test_numbers_below_their_range_are_refused_with_the_reason(element, attribute):
    with pytest.raises(SceneRefused, match=f'line 1: {attribute}=".*" .* is less than') as caught:
        screen(Scene(xml=f"<mujoco>{element}</mujoco>"))
    assert len(caught.value.hint or "") > 10


def test_every_integer_that_mujoco_reads_has_a_range():
    texts = {"eulerseq", "gridlayout"}
    # A <model> without a file poisons the process: what MuJoCo reads after it never ends.
    not_asked = {"composite", "include", "model", *REFUSED_ELEMENTS}
    without_range = {
        f"{path[-1]}/{name}"
        for path, names in attributes_by_element()
        if not not_asked & set(path)
        for name in set(names) - texts
        if name not in limits.ATTRIBUTE_RANGES and f"{path[-1]}/{name}" not in limits.ATTRIBUTE_RANGES
        if is_integer(path, name)
    }
    assert without_range == set()


@pytest.mark.parametrize(
    ("element", "hint"),
    [
        ("<geom sizes='1'/>", "did you mean 'size'?"),
        ("<frame><body><geom size='1' zzz='-1'/></body></frame>", "leave it out"),
        ("<replicate count='2' nsample='-5'><geom size='1'/></replicate>", "leave it out"),
        ("<Geom size='1'/>", "did you mean 'geom'?"),
    ],
)
def test_what_mjcf_does_not_have_is_refused_wherever_it_stands(element, hint):
    with pytest.raises(SceneError, match="line 2: ") as caught:
        screen(Scene(xml=f"<mujoco><worldbody>\n{element}</worldbody></mujoco>"))
    assert caught.value.hint == hint


def test_all_that_this_mujoco_takes_is_known():
    """A MuJoCo that takes more is a reason to look at what that can do, and then to write it into schema.py."""
    unknown = {
        f"{path[-1]}/{name}"
        for path, names in attributes_by_element()
        if not set(path) & {"composite", "extension", "plugin"}
        for name in names
        if name not in ATTRIBUTES.get(path[-1], ())
    }
    assert unknown == set()


@pytest.mark.parametrize("value", ["0x7fffffff", "many", "nan", "1 2 x"])
def test_a_capped_number_that_cannot_be_read_does_not_pass(value):
    with pytest.raises(SceneError, match="is not a number"):
        screen(Scene(xml=f"<mujoco><size nkey='{value}'/></mujoco>"))


def test_usual_numbers_pass():
    xml = """<mujoco><size memory="100M" njmax="-1"/><option iterations="50"/>
        <visual><quality shadowsize="4096"/><global offwidth="1920" offheight="1080"/></visual>
        <worldbody><camera resolution="1280 720"/><geom type="plane" size="1e6 1e6 1"/></worldbody></mujoco>"""
    assert screen(Scene(xml=xml)).xml.count("=") == xml.count("=")


def test_an_image_that_unpacks_to_gigabytes_is_refused():
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 30_000, 30_000)
    xml = '<mujoco><asset><texture file="a.dat" type="2d"/></asset></mujoco>'
    with pytest.raises(SceneRefused, match="30000 x 30000 pixels"):
        screen(Scene(xml=xml, assets={"a.dat": png}))


def test_all_attributes_of_mujoco_s_schema_that_speak_of_files_are_known():
    attributes = set(re.findall(r"[a-z_0-9]+", schema()))
    speaking = {name for name in attributes if re.search(r"file|path|dir$|^passt|^embed$|asset", name)}
    harmless = {"dir", "asset"}
    assert speaking - harmless == FILE_ATTRIBUTES | DROPPED_ATTRIBUTES


def test_every_range_is_of_an_attribute_that_mujoco_has():
    known = set(re.findall(r"[a-z_0-9]+", schema()))
    assert {word for name in limits.ATTRIBUTE_RANGES for word in name.split("/")} <= known
    assert set(limits.MODEL_CAPS) <= set(dir(mujoco.MjModel))


def test_the_parent_s_side_does_not_import_mujoco():
    program = "import sys, vla_server_base.scenes.pool; sys.exit('mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def is_integer(path: tuple[str, ...], attribute: str) -> bool:
    """Whether MuJoCo takes ones for an attribute, and halves not."""
    before = "".join(f"<{tag}>" for tag in path[:-1])
    after = "".join(f"</{tag}>" for tag in reversed(path[:-1]))

    def takes(value: str) -> bool:
        try:
            mujoco.MjSpec.from_string(f"{before}<{path[-1]} {attribute}='{value}'/>{after}")
        except (ValueError, RuntimeError) as error:
            return f"attribute '{attribute}'" not in str(error)
        return True

    return any(takes(" ".join(["1"] * length)) and not takes(" ".join(["0.5"] * length)) for length in (1, 2, 3))
