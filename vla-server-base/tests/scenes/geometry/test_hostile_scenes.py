"""Scenes that were seen to harm a process end as errors when their geometry is wanted, and the next one is answered."""

import pytest
from attack_scenes import ANSWERED, ASSET_ELEMENTS, REFUSED, RUBBISH, in_world, rubbish_scene
from glb_file import read_glb
from plain_scene import PLAIN_XML, running

from vla_server_base.errors import SceneError
from vla_server_base.scenes.messages import GltfRequest, Scene

FEW = ("include of a file", "plugin", "nested replicate", "textures that add up")


@pytest.fixture(scope="module")
async def narrow_pool():
    async with running(scene_workers=1, scene_memory_mb=1024, scene_timeout_s=30) as pool:
        yield pool


@pytest.mark.anyio
@pytest.mark.parametrize("xml", [*(REFUSED[name] for name in FEW), *(xml for xml, _ in ANSWERED.values())])
async def test_an_attack_is_refused_and_the_next_scene_is_answered(narrow_pool, xml):
    with pytest.raises(SceneError) as caught:
        await narrow_pool.export(Scene(xml=xml), GltfRequest())
    assert caught.value.status == 422
    await assert_exports(narrow_pool)


@pytest.mark.anyio
@pytest.mark.parametrize("name", RUBBISH)
@pytest.mark.parametrize("asset", ASSET_ELEMENTS)
async def test_files_that_are_rubbish_are_refused(narrow_pool, name, asset):
    with pytest.raises(SceneError):
        await narrow_pool.export(rubbish_scene(name, asset), GltfRequest())


@pytest.mark.anyio
async def test_colours_beyond_all_bounds_are_cut(narrow_pool):
    xml = in_world("<geom size='0.1' rgba='1e30 -1e30 0 1'/><light diffuse='1e30 -1e30 0'/>")
    file = read_glb((await narrow_pool.export(Scene(xml=xml), GltfRequest())).glb)
    assert file.document["materials"][0]["pbrMetallicRoughness"]["baseColorFactor"] == [1, 0, 0, 1]
    assert file.document["extensions"]["KHR_lights_punctual"]["lights"][0]["color"] == [1, 0, 0]


@pytest.mark.anyio
async def test_numbers_that_are_not_finite_are_refused(narrow_pool):
    xml = in_world("<geom size='0.1'/><light pos='1e200 0 0'/>")
    with pytest.raises(SceneError, match="not finite"):
        await narrow_pool.export(Scene(xml=xml), GltfRequest())
    await assert_exports(narrow_pool)


@pytest.mark.anyio
async def test_a_sky_of_25_million_texels_is_answered_within_the_bounds_of_a_worker(narrow_pool):
    sky = "<texture type='skybox' builtin='gradient' rgb1='1 0 0' rgb2='0 0 1' width='2048' height='12288'/>"
    xml = f"<mujoco><asset>{sky}</asset></mujoco>"
    file = read_glb((await narrow_pool.export(Scene(xml=xml), GltfRequest())).glb)
    assert file.extras["skybox"]["up"][0] > file.extras["skybox"]["down"][0]


async def assert_exports(pool) -> None:
    reply = await pool.export(Scene(xml=PLAIN_XML), GltfRequest())
    assert len(read_glb(reply.glb).all("geom")) == 2
