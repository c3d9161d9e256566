"""The same scene comes out the same, whatever draws it."""

import asyncio
import io
import time

import numpy as np
import pytest
from PIL import Image
from plain_scene import PLAIN_XML, assert_serves, render, running, where

from vla_server_base.errors import RendererUnavailable
from vla_server_base.scenes.messages import SceneState

pytestmark = pytest.mark.anyio

SHAPES = """
<mujoco>
  <asset>
    <material name="red" rgba="1 0 0 1" specular="0"/>
    <material name="green" rgba="0 1 0 1" specular="0"/>
    <material name="blue" rgba="0 0 1 1" specular="0"/>
    <material name="yellow" rgba="1 1 0 1" specular="0"/>
    <material name="magenta" rgba="1 0 1 1" specular="0"/>
    <material name="cyan" rgba="0 1 1 1" specular="0"/>
    <mesh name="wedge" vertex="0 0 0  0.3 0 0  0 0.3 0  0 0 0.3"/>
  </asset>
  <worldbody>
    <geom type="box" size="0.1 0.15 0.1" pos="-0.35 0.1 0.1" euler="0 0 30" material="red"/>
    <geom type="sphere" size="0.1" pos="0 0 0.2" material="green"/>
    <geom type="capsule" size="0.05 0.15" pos="0.35 0 0.3" euler="30 40 0" material="blue"/>
    <geom type="cylinder" size="0.08 0.1" pos="0.35 -0.4 0.2" euler="30 40 0" material="yellow"/>
    <geom type="ellipsoid" size="0.08 0.1 0.2" pos="-0.3 -0.4 0.2" euler="30 40 0" material="magenta"/>
    <geom type="mesh" mesh="wedge" pos="0 0.3 0.3" material="cyan"/>
    <geom type="sphere" size="0.05" pos="0 -1.3 0.9" material="red"/>
    <camera name="primary" pos="0 -1.3 0.9" xyaxes="1 0 0 0 0.5 0.86"/>
    <camera name="tilted" pos="0.9 -0.7 0.9" mode="targetbody" target="world" fovy="60"/>
    <camera name="lens" pos="0 -1.3 0.9" xyaxes="1 0.1 0 0 0.5 0.86" resolution="100 100"
            sensorsize="0.01 0.014" focal="0.01 0.012" principal="0.001 0.002"/>
    <camera name="flat" pos="0 -1.3 0.9" xyaxes="1 0 0 0 0.5 0.86" projection="orthographic" fovy="1.4"/>
  </worldbody>
</mujoco>
"""


async def test_ray_casting_works_everywhere_and_every_renderer_draws_the_plain_scene(pools):
    assert "raycast" in pools
    for name, pool in pools.items():
        assert pool.renderer == name
        await assert_serves(pool)


@pytest.mark.parametrize("camera", ["primary", "tilted", "lens", "flat"])
async def test_all_renderers_agree_on_every_silhouette_to_a_pixel(pools, camera):
    images = [await render(pool, SHAPES, camera=camera) for pool in pools.values()]
    hues = [hue(reply.view.images["primary"]) for reply in images]
    assert len(np.unique(hues[0])) == 7, "six objects and the background; a camera inside a ball sees through it"
    for one, other in ((one, other) for one in hues for other in hues):
        for colour in np.unique(one):
            assert not ((one == colour) & ~widen(other == colour)).any()


@pytest.mark.parametrize("size", [(120, 200), (200, 120)])
async def test_an_image_may_be_wide_or_tall(pools, size):
    height, width = size
    for pool in pools.values():
        image = (await render(pool, height=height, width=width)).view.images["primary"]
        assert image.shape == (height, width, 3)
        red, blue = (where(image, colour) for colour in ("red", "blue"))
        # Rows show the camera's fovy whatever the width is: 0.5 m apart at 1.5 m, seen by 45 degrees.
        distance = blue[1].mean() - red[1].mean()
        assert distance == pytest.approx(0.5 / 1.4 / (2 * np.tan(np.radians(22.5))) * height, rel=0.08)


async def test_the_sky_turns_the_same_way_in_all_renderers(pools):
    cameras = [f'<camera name="c{i}" fovy="80" euler="{50 * i} {70 * i + 20} {30 * i}"/>' for i in range(4)]
    files = ("right", "left", "up", "down", "front", "back")
    sky = " ".join(f'file{name}="{name}.png"' for name in files)
    xml = f"""<mujoco><asset><texture type="skybox" {sky}/></asset>
              <worldbody><geom size="0.01" pos="9 9 9"/>{"".join(cameras)}</worldbody></mujoco>"""
    colours = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255))
    assets = {f"{name}.png": face(colour) for name, colour in zip(files, colours, strict=True)}
    for camera in range(4):
        images = [
            (await render(pool, xml, assets, camera=f"c{camera}")).view.images["primary"].astype(int)
            for pool in pools.values()
        ]
        for image in images:
            assert (np.abs(image - images[0]).max(axis=2) > 60).mean() < 0.04, "but for blurred edges"


async def test_a_transparent_thing_shows_what_is_behind_it(pools):
    xml = """<mujoco><worldbody>
        <geom type="box" size="0.3 0.3 0.01" rgba="1 0 0 1"/>
        <geom type="box" size="0.1 0.1 0.01" pos="0 0 0.3" rgba="0 0 1 0.5"/>
        <camera pos="0 0 2"/></worldbody></mujoco>"""
    for pool in pools.values():
        red, green, blue = (await render(pool, xml)).view.images["primary"][112, 112].astype(int)
        assert min(red, blue) > green + 20


async def test_light_and_colour_of_ray_casting_are_near_those_of_opengl(pools):
    xml = """<mujoco><worldbody>
        <light directional="true" dir="1 0 -1" diffuse="0.5 0.4 0.3"/>
        <light pos="0 0 1" dir="0 0 -1" cutoff="60" exponent="1"/>
        <geom type="sphere" size="0.3" rgba="0.8 0.7 0.6 1"/>
        <camera pos="0 0 1.2"/></worldbody></mujoco>"""
    images = [(await render(pool, xml)).view.images["primary"].astype(int) for pool in pools.values()]
    for image in images:
        difference = np.abs(image - images[-1])
        assert difference.mean() < 2
        assert np.quantile(difference, 0.98) < 25, "OpenGL lights corners of round things, we light pixels"


async def test_a_camera_sees_an_endless_floor_alike_whatever_was_drawn_before(pools):
    xml = """<mujoco><statistic extent="5"/><worldbody><light pos="0 0 2" cutoff="30"/>
        <geom type="plane" size="0 0 0.1" rgba="0.8 0.6 0.4 1"/>
        <camera name="here" pos="0 0 3"/><camera name="there" pos="7 3 3"/></worldbody></mujoco>"""
    for pool in pools.values():
        images = [
            (await render(pool, xml, camera=camera)).view.images["primary"]
            for camera in ("here", "there", "here", "here")
        ]
        for again in images[2:]:
            np.testing.assert_array_equal(again, images[0])


async def test_a_state_moves_a_body_in_the_image(pools):
    for pool in pools.values():
        still = where((await render(pool)).view.images["primary"], "blue")[0].mean()
        moved = await render(pool, state=SceneState(qpos=np.array([0.3])))
        assert where(moved.view.images["primary"], "blue")[0].mean() < still - 30
        assert moved.cost.compile_ms == 0


async def test_scenes_held_at_the_same_time_do_not_show_in_each_other_s_images(pools):
    green = PLAIN_XML.replace("1 0 0 1", "0 1 0 1")
    for pool in pools.values():
        for height in (224, 100, 224):
            for xml, colour, other in ((PLAIN_XML, "red", "green"), (green, "green", "red")):
                image = (await render(pool, xml, height=height)).view.images["primary"]
                assert len(where(image, colour)[0]) > 100
                assert len(where(image, other)[0]) == 0


async def test_shadows_and_multisampling_are_settings_of_the_server_and_only_of_opengl(pools):
    xml = """<mujoco><visual><quality shadowsize="8192" offsamples="64"/></visual><worldbody>
        <light directional="true" pos="-2 0 2" dir="1 0 -1" diffuse="0.8 0.8 0.8"/>
        <geom type="plane" size="1 1 0.1"/><geom type="box" size="0.1 0.1 0.1" pos="-0.2 0 0.4" euler="0 0 10"/>
        <camera pos="0 0 2"/></worldbody></mujoco>"""
    for name, pool in pools.items():
        plain = (await render(pool, xml)).view.images["primary"].astype(int)
        async with running(renderer=name, scene_workers=1, scene_shadows=True, scene_multisampling=4) as fine:
            image = (await render(fine, xml)).view.images["primary"].astype(int)
        darker = (image.sum(axis=2) < plain.sum(axis=2) - 60).mean()
        assert (darker > 0.01) == (name != "raycast")


async def test_a_small_scene_is_cast_in_less_than_20_ms(pools):
    times = [(await render(pools["raycast"])).cost.render_ms for _ in range(15)]
    assert min(times) < 20, f"{min(times):.1f} ms at best"


async def test_auto_says_why_it_did_not_take_opengl_where_its_libraries_are_broken(monkeypatch, tmp_path):
    for library in ("EGL", "GL", "OpenGL", "OSMesa"):
        for version in ("", *(f".{number}" for number in range(10))):
            (tmp_path / f"lib{library}.so{version}").write_bytes(bytes(4096))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    async with running(scene_workers=1) as pool:
        assert pool.renderer == "raycast"
        assert set(pool.tried) == {"egl", "osmesa"}
        assert all("does not work here" in why for why in pool.tried.values())
        await assert_serves(pool)


async def test_a_renderer_that_was_asked_for_and_does_not_work_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_DIRS", str(tmp_path))
    with pytest.raises(RendererUnavailable, match="egl does not work here") as caught:
        async with running(renderer="egl"):
            pass
    assert "raycast" in caught.value.hint


async def test_an_attempt_that_hangs_or_dies_is_only_a_failed_attempt(monkeypatch, tmp_path):
    # A library that hangs or dies when it is opened, which only the attempts at OpenGL do.
    (tmp_path / "OpenGL").mkdir()
    (tmp_path / "OpenGL" / "__init__.py").write_text(
        "import os, time\nif os.environ['PYOPENGL_PLATFORM'] == 'egl': time.sleep(3600)\nos.kill(os.getpid(), 11)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("vla_server_base.scenes.worker_process.START_TIMEOUT_S", 5.0)
    start = time.monotonic()
    async with running(scene_workers=1) as pool:
        assert time.monotonic() - start < 20
        assert pool.renderer == "raycast"
        assert "not ready" in pool.tried["egl"]
        assert "SIGSEGV" in pool.tried["osmesa"]
        await asyncio.wait_for(assert_serves(pool), 20)


def hue(image: np.ndarray) -> np.ndarray:
    """Number the pixels by which channels are lit: 0 black, 1 red, 2 green, 3 yellow, ..."""
    return ((image > 12) * [1, 2, 4]).sum(axis=2)


def widen(mask: np.ndarray) -> np.ndarray:
    """Add the eight neighbours of every pixel."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    shifts = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.any(shifts, axis=0)


def face(colour: tuple[int, int, int]) -> bytes:
    """Return a PNG of one colour with a white corner."""
    pixels = np.full((64, 64, 3), colour, np.uint8)
    pixels[:16, :16] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()
