"""Scenes of several files of MJCF: put together from what was sent, as MuJoCo puts them together from a disk."""

import mujoco
import pytest
from test_asset_names import PYRAMID, TETRAHEDRON

from vla_server_base.errors import MissingAsset, SceneError, SceneRefused
from vla_server_base.scenes import limits
from vla_server_base.scenes.messages import Scene
from vla_server_base.scenes.worker.scene import compile_scene
from vla_server_base.scenes.worker.screening import screen

MAIN = """<mujoco>{}<include file="sub/part.xml"/>
<worldbody><geom type="mesh" mesh="m"/></worldbody></mujoco>"""
PART = '<mujocoinclude>{}<asset><mesh name="m" file="m.obj"/></asset></mujocoinclude>'
NESTED = '<mujoco><include file="deep.xml"/></mujoco>'
WORLD = "<mujoco><worldbody>{}</worldbody></mujoco>"


def screened(xml: str, **parts: str | bytes):
    """A scene with files of MJCF, a.xml by the name a."""
    return screen(Scene(xml=xml, assets={f"{name}.xml": encoded(part) for name, part in parts.items()}))


def encoded(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def include(*names: str) -> str:
    return "<mujoco>" + "".join(f"<include file='{name}.xml'/>" for name in names) + "</mujoco>"


@pytest.mark.parametrize(
    ("main", "files"),
    [
        (MAIN.format(""), {"sub/part.xml": PART.format(""), "m.obj": TETRAHEDRON, "sub/m.obj": PYRAMID}),
        (MAIN.format(""), {"sub/part.xml": PART.format(""), "sub/m.obj": PYRAMID}),
        (
            MAIN.format('<compiler meshdir="meshes"/>'),
            {"sub/part.xml": PART.format(""), "meshes/m.obj": TETRAHEDRON, "sub/m.obj": PYRAMID},
        ),
        (
            MAIN.format('<compiler meshdir="../meshes"/>'),
            {"sub/part.xml": PART.format(""), "../meshes/m.obj": TETRAHEDRON, "sub/m.obj": PYRAMID},
        ),
        (MAIN.format('<compiler meshdir="meshes"/>'), {"sub/part.xml": PART.format(""), "sub/m.obj": PYRAMID}),
        (
            MAIN.format(""),
            {
                "sub/part.xml": PART.format('<compiler meshdir="meshes"/>'),
                "meshes/m.obj": TETRAHEDRON,
                "sub/meshes/m.obj": PYRAMID,
            },
        ),
        (
            MAIN.format('<compiler assetdir="a"/>'),
            {"sub/part.xml": PART.format('<compiler meshdir="b"/>'), "a/m.obj": TETRAHEDRON, "b/m.obj": PYRAMID},
        ),
        (
            MAIN.format('<compiler strippath="true" meshdir="k"/>'),
            {"sub/part.xml": PART.format("").replace("m.obj", "x/m.obj"), "k/m.obj": TETRAHEDRON, "k/x/m.obj": PYRAMID},
        ),
        (MAIN.format(""), {"sub/part.xml": NESTED, "sub/deep.xml": PART.format(""), "m.obj": TETRAHEDRON}),
        (MAIN.format(""), {"sub/part.xml": NESTED, "deep.xml": PART.format(""), "m.obj": TETRAHEDRON}),
        (
            MAIN.format(""),
            {
                "sub/part.xml": NESTED,
                "deep.xml": PART.format(""),
                "sub/deep.xml": PART.format("").replace("m.obj", "other.obj"),
                "m.obj": TETRAHEDRON,
                "other.obj": PYRAMID,
            },
        ),
    ],
)
def test_files_are_found_where_mujoco_finds_them_on_a_disk(main, files, tmp_path):
    files = {name: encoded(content) for name, content in files.items()}
    folder = tmp_path / "model"
    for name, content in {"main.xml": main.encode(), **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    from_disk = mujoco.MjModel.from_xml_path(str(folder / "main.xml"))
    assert compile_scene(screen(Scene(xml=main, assets=files))).nmeshvert == from_disk.nmeshvert


def test_an_include_may_stand_anywhere_and_its_root_counts_for_nothing():
    body = "<mujocoinclude model='b' meshdir='x'><geom size='0.1'/><body><geom size='0.2'/></body></mujocoinclude>"
    main = WORLD.format("<replicate count='3'><body><include file='b.xml'/><geom size='0.3'/></body></replicate>")
    assert compile_scene(screened(main, b=body)).ngeom == 9


def test_an_included_file_may_be_named_by_its_ending():
    scene = Scene(xml=include("/Users/ann/robot"), assets={"robot.xml": WORLD.format("<geom size='1'/>").encode()})
    assert compile_scene(screen(scene)).ngeom == 1


@pytest.mark.parametrize(
    "parts",
    [
        {"a": include("a")},
        {"a": include("b"), "b": include("a")},
        {"a": include("./a")},
        {"a": include("b"), "b": include("c"), "c": include("b")},
        {"a": "<mujoco/>", "b": "<mujoco/>", "again": "<mujoco/>"},
    ],
)
def test_no_file_is_included_twice(parts):
    with pytest.raises(SceneRefused, match="is included already"):
        screened(include("a", "a"), **parts)


def test_a_chain_of_includes_has_an_end():
    parts = {f"p{number}": include(f"p{number + 1}") for number in range(limits.MAX_INCLUDE_DEPTH + 1)}
    with pytest.raises(SceneRefused, match="includes are nested more than"):
        screened(include("p0"), **parts)


def test_all_xml_counts_together():
    parts = {f"p{number}": b"<mujoco>" + b" " * 400_000 + b"</mujoco>" for number in range(5)}
    with pytest.raises(SceneRefused, match="bytes long"):
        screened(include(*parts), **parts)


def test_what_is_included_is_screened_as_the_scene_is():
    for part, message in {
        "<mujoco>\n<extension/></mujoco>": "line 2 of a.xml: <extension> is not supported",
        "<mujoco>\n\n<size nkey='2000000000'/></mujoco>": "line 3 of a.xml: nkey=",
        "<!DOCTYPE a [<!ENTITY x 'y'>]><mujoco/>": "line 1 of a.xml: a document type",
        "<mujoco><worldbody>" + "<body>" * 301 + "</body>" * 301 + "</worldbody></mujoco>": "levels of elements",
    }.items():
        with pytest.raises(SceneRefused, match=message):
            screened(include("a"), a=part)


def test_a_missing_part_is_named_with_the_file_that_asks_for_it():
    with pytest.raises(MissingAsset, match=r"line 2 of a.xml: <include> names the asset '/etc/passwd'"):
        screened(include("a"), a="<mujoco>\n<include file='/etc/passwd'/></mujoco>")


@pytest.mark.parametrize(
    "part", [b"", b"<mujoco>", b"PK\x03\x04", b"\xff\xfe<mujoco/>", "<mujoco a='\xe9'/>".encode("latin-1")]
)
def test_a_part_that_is_no_xml_is_told_with_its_name(part):
    with pytest.raises(SceneError, match=r"malformed at line 1, column \d+ of a.xml"):
        screened(include("a"), a=part)


def test_a_part_may_begin_as_windows_editors_begin_it():
    assert compile_scene(screened(include("a"), a="\ufeff" + WORLD.format("<geom size='1'/>"))).ngeom == 1


@pytest.mark.parametrize("name", ["Include", "INCLUDE"])
def test_an_include_in_capitals_is_one_for_mujoco_and_for_us(name):
    assert "include" not in screened(f"<mujoco><{name} file='a.xml'/></mujoco>", a="<mujoco/>").xml.lower()


def test_mujoco_s_words_name_the_line_of_the_file_that_is_wrong():
    main = "<mujoco>\n<include file='a.xml'/>\n\n<worldbody><geom size='1'/></worldbody>\n{}</mujoco>"
    wrong = "<worldbody>\n<geom size='wide'/></worldbody>"
    with pytest.raises(SceneError, match=r"line 4 of a.xml"):
        compile_scene(screened(main.format(""), a=f"<mujoco>\n\n{wrong}</mujoco>"))
    with pytest.raises(SceneError, match=r"line 6$"):
        compile_scene(screened(main.format(wrong), a="<mujoco>\n\n</mujoco>"))


# Models that are attached.

CHILD = """<mujoco><compiler meshdir="ms"/><asset><mesh name="m" file="m.obj"/></asset>
<worldbody><body name="b"><geom type="mesh" mesh="m"/></body></worldbody></mujoco>"""
PARENT = """<mujoco><asset><model name="c" file="sub/c.xml"/></asset><worldbody>
<attach model="c" body="b" prefix="x_"/><frame pos="1 0 0"><attach model="c" body="b" prefix="y_"/></frame>
</worldbody></mujoco>"""


def attaching(number: int, child: str = "c") -> str:
    attached = "".join(f"<attach model='{child}' body='b' prefix='p{n}_'/>" for n in range(number))
    asset = f"<asset><model name='{child}' file='{child}.xml'/></asset>"
    return f"<mujoco>{asset}<worldbody>{attached}<body name='b'/></worldbody></mujoco>"


def test_a_model_is_attached_with_files_of_its_own():
    model = compile_scene(screen(Scene(xml=PARENT, assets={"sub/c.xml": CHILD.encode(), "sub/ms/m.obj": TETRAHEDRON})))
    assert [model.body(i).name for i in range(1, model.nbody)] == ["x_b", "y_b"]


def test_an_attached_model_may_include_files():
    child = "<mujoco><include file='d.xml'/></mujoco>"
    assert compile_scene(screened(attaching(2), c=child, d=WORLD.format("<body name='b'/>"))).nbody == 4


def test_an_attached_model_is_screened_as_the_scene_is():
    with pytest.raises(SceneRefused, match=r"line 1 of c.xml: <plugin> is not supported"):
        screened(attaching(1), c=WORLD.format("<plugin/>"))
    with pytest.raises(MissingAsset, match=r"line 1 of c.xml: <mesh>"):
        screened(attaching(1), c="<mujoco><asset><mesh file='/etc/a.obj'/></asset></mujoco>")


def test_a_model_that_attaches_itself_is_refused():
    with pytest.raises(SceneRefused, match="attached to itself"):
        screened(attaching(1), c=attaching(1))
    with pytest.raises(SceneRefused, match="attached to itself"):
        screened(attaching(1), c=attaching(1, "d"), d=attaching(1))
    with pytest.raises(SceneRefused, match="<attach> without a model"):
        screened(WORLD.format("<body name='b'/><attach body='b' prefix='x'/>"))


def test_models_that_multiply_are_refused():
    child = WORLD.format("<body name='b'>" + "<geom size='1'/>" * 100 + "</body>")
    with pytest.raises(SceneRefused, match=r"models that are attached, this makes \d+ elements"):
        screened(attaching(200), c=child)
    with pytest.raises(SceneRefused, match=r"models that are attached, this makes \d+ elements"):
        screened(attaching(100, "d"), d=attaching(100), c=WORLD.format("<body name='b'/>" * 10))


def test_a_binary_model_is_not_attached():
    with pytest.raises(SceneError, match=r"malformed at line 1, column 2 of c.xml"):
        screened(attaching(1), c=b"\x31\xd4\0\0" + bytes(100))
