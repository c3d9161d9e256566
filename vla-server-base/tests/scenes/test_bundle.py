"""Scenes as one zip: what people and MuJoCo write is read, and what only an attacker writes is not."""

import io
import stat
import struct
import time
import warnings
import zipfile

import mujoco
import pytest
from test_asset_names import PNG, TETRAHEDRON

from vla_server_base.errors import SceneError, SceneRefused
from vla_server_base.scenes import limits
from vla_server_base.scenes.bundle import mjcf_text, scene_from_bundle
from vla_server_base.scenes.worker.scene import compile_scene
from vla_server_base.scenes.worker.screening import screen

XML = """<mujoco model="two files"><compiler meshdir="meshes" texturedir="textures"/>
    <asset><mesh file="a.obj"/><texture name="t" type="2d" file="b.png"/><material name="m" texture="t"/></asset>
    <worldbody><geom type="mesh" mesh="a" material="m"/></worldbody></mujoco>"""
FILES = {"meshes/a.obj": TETRAHEDRON, "textures/b.png": PNG}


def zipped(*entries, method=zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of (name or ZipInfo, content)."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as bundle:
        warnings.simplefilter("ignore")  # of names that come twice
        for name, content in entries:
            bundle.writestr(name, content)
    return buffer.getvalue()


def compiled(packed: bytes) -> mujoco.MjModel:
    return compile_scene(screen(scene_from_bundle(packed)))


def test_what_mujoco_writes_is_read(tmp_path):
    spec = mujoco.MjSpec.from_string(XML, assets=FILES)
    model = spec.compile()
    buffer = io.BytesIO()
    spec.assets = FILES
    spec.to_zip(buffer)
    assert compiled(buffer.getvalue()).nmeshvert == model.nmeshvert
    if hasattr(spec, "encode"):
        path = tmp_path / "scene.mjz"
        spec.encode(str(path), model=model)
        read = compiled(path.read_bytes())
        assert (read.nmeshvert, read.ntex) == (model.nmeshvert, 1)


@pytest.mark.parametrize("folder", ["", "robot/", "robot/v2/"])
@pytest.mark.parametrize("name", ["scene.xml", "Robot v2.XML"])
def test_a_zipped_folder_is_read(folder, name):
    entries = [(folder, b"")] if folder else []
    entries += [(folder + name, XML)] + [(folder + path, content) for path, content in FILES.items()]
    scene = scene_from_bundle(zipped(*entries))
    assert scene.xml == XML
    assert scene.assets == FILES
    assert compiled(zipped(*entries)).nmesh == 1


def test_files_beside_the_model_s_folder_are_found():
    packed = zipped(("mjcf/scene.xml", XML.replace('"meshes"', '"../meshes"')), *FILES.items())
    assert compiled(packed).nmesh == 1


def test_what_macos_and_windows_add_is_left_out():
    clutter = [("__MACOSX/._scene.xml", b"\0"), ("._scene.xml", b"\0"), ("LICENSE [1]?", b"text")]
    packed = zipped(("scene.xml", XML), *FILES.items(), *clutter)
    assert set(scene_from_bundle(packed).assets) == {*FILES, "LICENSE [1]?"}


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["a.xml", "scene.xml", "model.xml"], "scene.xml"),
        (["a.xml", "model.xml"], "model.xml"),
        (["r/a.xml", "r/scene.xml", "r/deeper/scene.xml"], "r/scene.xml"),
        (["a.xml", "deeper/scene.xml"], "a.xml"),
    ],
)
def test_of_several_models_the_topmost_scene_is_taken(names, chosen):
    scene = scene_from_bundle(zipped(*((name, f"<mujoco model='{name}'/>") for name in names)))
    assert scene.xml == f"<mujoco model='{chosen}'/>"


@pytest.mark.parametrize("names", [("a.xml", "b.xml"), ("a/scene.xml", "b/scene.xml")])
def test_several_models_of_one_rank_are_named(names):
    with pytest.raises(SceneError, match=f"several models: {names[0]}, {names[1]}") as caught:
        scene_from_bundle(zipped(*((name, XML) for name in names)))
    assert caught.value.hint == f'name one: "scene_file": "{names[0]}"'


def world(text: str = "", root: str = "mujoco") -> str:
    return f"<{root}>{text}<worldbody/></{root}>"


@pytest.mark.parametrize(
    "files",
    [
        {"task.xml": world("<include file='parts/arm.xml'/>"), "parts/arm.xml": world()},
        {"xml/task.xml": world("<include file='../arm.xml'/>"), "arm.xml": world()},
        {"task.xml": "<mujoco><include file='arm.xml'/></mujoco>", "arm.xml": world(root="mujocoinclude")},
        {"task.xml": "<mujoco><asset><model file='arm.xml'/></asset><worldbody/></mujoco>", "arm.xml": world()},
        {"task.xml": world(), "assets.xml": "<mujoco><asset/></mujoco>", "arm.xml": world(root="mujocoinclude")},
        {"deep/task.xml": world(), "robot.urdf.xml": "<robot name='a'/>", "notes.xml": "<notes>"},
        {"task.xml": world("<include file='a.xml'/>"), "a.xml": world("<include file='b.xml'/>"), "b.xml": world()},
        {"task.mjcf": world("<include file='arm.xml'/>"), "arm.xml": world()},
    ],
)
def test_the_one_model_that_no_other_includes_is_the_scene(files):
    (wanted,) = (name for name in files if "task" in name)
    assert scene_from_bundle(zipped(*files.items())).xml == files[wanted]


def test_models_that_include_one_another_are_told_apart_by_name_alone():
    packed = zipped(("a.xml", world("<include file='b.xml'/>")), ("b.xml", world("<include file='a.xml'/>")))
    with pytest.raises(SceneError, match="several models"):
        scene_from_bundle(packed)


@pytest.mark.parametrize("scene_file", ["b/two.xml", "./b//two.xml", "b\\two.xml", "two.xml", "/b/two.xml"])
def test_the_scene_may_be_named(scene_file):
    packed = zipped(("a/one.xml", world()), ("b/two.xml", XML), ("scene.xml", world()), ("meshes/a.obj", TETRAHEDRON))
    scene = scene_from_bundle(packed, scene_file)
    assert scene.xml == XML
    assert set(scene.assets) == {"../a/one.xml", "../scene.xml", "../meshes/a.obj"}


@pytest.mark.parametrize(
    ("scene_file", "message"),
    [
        ("three.xml", "is not in the scene's zip"),
        ("", "is not in the scene's zip"),
        ("scene.xml", "could be any of a/scene.xml, b/scene.xml"),
        ("/etc/passwd", "is not in the scene's zip"),
    ],
)
def test_a_name_that_is_no_file_s_or_several_files_is_told_with_those_there_are(scene_file, message):
    with pytest.raises(SceneError, match=message) as caught:
        scene_from_bundle(zipped(("a/scene.xml", XML), ("b/scene.xml", XML)), scene_file)
    assert caught.value.hint == "name one of: a/scene.xml, b/scene.xml"


def test_xml_too_long_to_look_through_is_told_that_the_scene_can_be_named(monkeypatch):
    monkeypatch.setattr(limits, "MAX_XML_BYTES", 100)
    packed = zipped(("a.xml", world()), ("b.xml", world(" " * 1000)))
    with pytest.raises(SceneError, match="too much XML") as caught:
        scene_from_bundle(packed)
    assert "scene_file" in caught.value.hint
    assert scene_from_bundle(packed, "a.xml").xml == world()


def test_a_zip_from_windows_may_have_its_slashes_the_other_way():
    packed = zipped(("robot\\scene.xml", XML), *((f"robot\\{name}", content) for name, content in FILES.items()))
    assert compiled(packed).nmesh == 1


def named(name: str, content=b"x", *, mode: int = 0, method=zipfile.ZIP_DEFLATED):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = method
    return info, content


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (named("/etc/passwd"), "is not a path inside it"),
        (named("../secret.obj"), "is not a path inside it"),
        (named("a/../../secret.obj"), "is not a path inside it"),
        (named("a//b.obj"), "is not a path inside it"),
        (named("..\\b.obj"), "is not a path inside it"),
        (named("C:/b.obj"), "is not a path inside it"),
        (named("a\nb.obj"), "is not a path inside it"),
        (named("a" * 201), "201 characters"),
        (named("link.obj", b"/etc/passwd", mode=stat.S_IFLNK | 0o777), "a link or a device"),
        (named("fifo", mode=stat.S_IFIFO), "a link or a device"),
        (named("a.obj", method=zipfile.ZIP_BZIP2), "method 12"),
        (named("a.obj", method=zipfile.ZIP_LZMA), "method 14"),
        (named("scene.xml"), "in it twice"),
    ],
)
def test_entries_that_only_an_attacker_writes_are_refused(entry, message):
    with pytest.raises(SceneRefused, match=message) as caught:
        scene_from_bundle(zipped(("scene.xml", XML), entry))
    assert caught.value.hint


def test_an_encrypted_entry_is_refused():
    packed = bytearray(zipped(("scene.xml", XML)))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(signature) + place] |= 1
    with pytest.raises(SceneRefused, match="encrypted"):
        scene_from_bundle(bytes(packed))


@pytest.mark.parametrize(
    "packed",
    [
        zipped(("robot.mjb", b"\x31\xd4\0\0")),
        b"\x31\xd4\0\0" + bytes(100),
        zipped(("scene.xml", b"\x31\xd4\0\0" + bytes(100))),
    ],
)
def test_mjb_is_refused_wherever_it_stands(packed):
    with pytest.raises(SceneRefused, match="MJB is not supported") as caught:
        scene_from_bundle(packed)
    assert "MJCF" in caught.value.hint


def test_mjb_as_mujoco_saves_it_is_refused(tmp_path):
    path = tmp_path / "model.xml"
    mujoco.mj_saveModel(mujoco.MjSpec.from_string("<mujoco/>").compile(), str(path))
    with pytest.raises(SceneRefused, match="MJB is not supported"):
        mjcf_text(path.read_bytes())


def test_a_model_that_is_no_text_is_refused():
    with pytest.raises(SceneRefused, match=r"not UTF-8 text \(byte 8\)"):
        scene_from_bundle(zipped(("scene.xml", b"<mujoco>\xff")))


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (b"", "cannot be read"),
        (XML.encode(), "cannot be read"),
        (zipped(("scene.xml", XML))[:-30], "cannot be read"),
        (zipped(("scene.xml", XML)).replace(b"PK\x03\x04", b"PK\x03\x05"), "cannot be read"),
        (zipped(), "has no .xml"),
        (zipped(("inner.mjz", zipped(("scene.xml", XML)))), "only another zip, 'inner.mjz'"),
    ],
)
def test_what_holds_no_scene_is_told_so(packed, message):
    with pytest.raises(SceneError, match=message) as caught:
        scene_from_bundle(packed)
    assert (caught.value.code, bool(caught.value.hint)) == ("scene_invalid", True)


def test_damage_is_noticed():
    packed = bytearray(zipped(("scene.xml", XML), method=zipfile.ZIP_STORED))
    packed[packed.index(b"two files")] ^= 1
    with pytest.raises(SceneError, match="cannot be read"):
        scene_from_bundle(bytes(packed))


@pytest.mark.parametrize("said_size", [None, 10])
def test_a_bomb_is_not_unpacked_whatever_size_it_claims(said_size):
    packed = bytearray(zipped(("scene.xml", XML), ("a.obj", bytes(2**25))))
    if said_size is not None:
        place = packed.rindex(b"PK\x01\x02") + 24
        packed[place : place + 4] = struct.pack("<I", said_size)
    start = time.monotonic()
    with pytest.raises(SceneError):
        scene_from_bundle(bytes(packed))
    assert time.monotonic() - start < 1


def test_a_bomb_is_told_what_is_too_much():
    packed = zipped(("scene.xml", XML), ("a.obj", bytes(2**25)))
    with pytest.raises(SceneRefused, match=f"more than {limits.UNSUSPICIOUS_BYTES} bytes") as caught:
        scene_from_bundle(packed)
    assert "100 times" in caught.value.hint


def test_the_sizes_of_all_entries_count_together(monkeypatch):
    monkeypatch.setattr(limits, "MAX_BUNDLE_BYTES", 2**20)
    packed = zipped(("scene.xml", XML), *((f"{number}.obj", bytes(2**18)) for number in range(5)))
    with pytest.raises(SceneRefused, match="unpacks to more than 1048576 bytes"):
        scene_from_bundle(packed)


def test_too_many_entries_are_refused_before_they_are_listed():
    packed = zipped(*((f"{number}.obj", b"") for number in range(limits.MAX_BUNDLE_ENTRIES + 1)))
    few = packed.replace(struct.pack("<H", limits.MAX_BUNDLE_ENTRIES + 1), struct.pack("<H", 1))
    for each in (packed, few):
        with pytest.raises(SceneRefused, match="more than 4000 entries"):
            scene_from_bundle(each)


def test_repetitive_text_is_no_bomb():
    geoms = "<geom size='0.1' pos='1 2 3' rgba='1 0 0 1'/>" * 15_000
    packed = zipped(("scene.xml", f"<mujoco><worldbody>{geoms}</worldbody></mujoco>"))
    assert len(scene_from_bundle(packed).xml) > 600_000
