"""States and cameras of a scene: those that fit, and the errors for those that do not."""

import numpy as np
import pytest
from plain_scene import render, where

from vla_server_base.errors import SceneError, SceneRefused, SceneStateError, UnknownName
from vla_server_base.scenes.messages import SceneState

pytestmark = pytest.mark.anyio

MOVING = """
<mujoco>
  <worldbody>
    <light pos="0 0 3"/>
    <body name="slider"><joint name="rail" type="slide" axis="1 0 0"/><geom size="0.1" rgba="1 0 0 1"/></body>
    <body name="free" pos="0 0.4 0"><freejoint name="floating"/><geom size="0.1" rgba="0 1 0 1"/></body>
    <body name="hand" pos="0 -0.4 0" mocap="true"><geom type="box" size="0.2 0.05 0.05" rgba="0 0 1 1"/></body>
    <camera name="side" pos="0 -2 0" xyaxes="1 0 0 0 0 1"/>
    <camera name="top" pos="0 0 2.5"/>
    <camera name="wrist" pos="0 0 1.5"/>
  </worldbody>
  <actuator><motor name="push" joint="rail"/></actuator>
  <keyframe>
    <key name="left" qpos="-0.4 0 0.4 0 1 0 0 0"/>
    <key name="right" qpos="0.4 0 0.4 0 1 0 0 0"/>
  </keyframe>
</mujoco>
"""


async def column(pool, state: SceneState, colour: str = "red") -> float:
    reply = await render(pool, MOVING, state=state, camera="top")
    return where(reply.view.images["primary"], colour)[1].mean()


async def test_a_keyframe_is_applied_by_name_or_index_and_before_the_rest(pool):
    left = await column(pool, SceneState(keyframe="left"))
    right = await column(pool, SceneState(keyframe=1))
    assert left < 112 < right
    qpos = np.array([0.4, 0, 0.4, 0, 1, 0, 0, 0])
    assert await column(pool, SceneState(keyframe="left", qpos=qpos)) == pytest.approx(right)
    assert await column(pool, SceneState()) == pytest.approx(111.5, abs=1), "no state outlives its request"


async def test_a_request_without_a_keyframe_starts_at_the_one_named_home(pool):
    at_home = MOVING.replace('name="right"', 'name="home"')
    reply = await render(pool, at_home, camera="top")
    home = where(reply.view.images["primary"], "red")[1].mean()
    assert home == pytest.approx(await column(pool, SceneState(keyframe="right")))


async def test_a_mocap_body_moves_and_its_quaternion_is_normalized(pool):
    turned = SceneState(mocap_pos=np.array([[0.5, -0.4, 0]]), mocap_quat=np.array([[30.0, 0, 0, 30.0]]))
    image = (await render(pool, MOVING, state=turned, camera="top")).view.images["primary"]
    rows, columns = where(image, "blue")
    assert columns.mean() > 150
    assert np.ptp(rows) > np.ptp(columns), "a quarter turn stands it upright"


@pytest.mark.parametrize(
    ("state", "message", "hint"),
    [
        (SceneState(qpos=np.zeros(7)), "qpos: expected 8 numbers, got 7", "rail (1), floating (7)"),
        (SceneState(qvel=np.zeros(8)), "qvel: expected 7 numbers, got 8", "rail (1), floating (6)"),
        (SceneState(ctrl=np.zeros(0)), "ctrl: expected 1 numbers, got 0", "push"),
        (SceneState(mocap_pos=np.zeros((2, 3))), "mocap_pos: expected 1 x 3 numbers, got 2 x 3", "mocap"),
        (SceneState(qpos=np.full(8, np.nan)), "qpos holds numbers that are not finite", None),
        (SceneState(ctrl=np.array([np.inf])), "ctrl holds numbers that are not finite", None),
        (SceneState(mocap_quat=np.zeros((1, 4))), "mocap_quat holds a quaternion of length zero", "1 0 0 0"),
        (SceneState(keyframe=2), "there is no keyframe 2; this scene has 2", None),
        (SceneState(keyframe=-1), "there is no keyframe -1", None),
    ],
)
async def test_a_state_that_does_not_fit_is_refused_by_name_and_size(pool, state, message, hint):
    with pytest.raises(SceneStateError) as caught:
        await render(pool, MOVING, state=state)
    assert message in caught.value.message
    assert caught.value.code == "scene_state"
    assert hint is None or hint in caught.value.hint


async def test_an_unknown_keyframe_is_told_with_the_known(pool):
    with pytest.raises(UnknownName, match="keyframe 'up' is not known") as caught:
        await render(pool, MOVING, state=SceneState(keyframe="up"))
    assert (caught.value.code, caught.value.hint) == ("unknown_keyframe", "available: left, right")


async def test_numbers_that_overflow_on_the_way_are_refused(pool):
    qpos = np.array([1e308, 0, 0, 0, 1e308, 1e308, 0, 0])
    with pytest.raises(SceneStateError, match="not finite"):
        await render(pool, MOVING.replace('axis="1 0 0"', 'axis="1 0 0" ref="-1.7e308"'), state=SceneState(qpos=qpos))


async def test_primary_is_the_camera_of_that_name_else_the_first_that_is_not_wrist(pool):
    assert (await render(pool, MOVING)).view.cameras == {"primary": "side", "wrist": "wrist"}
    assert (await render(pool, MOVING.replace('"top"', '"primary"'))).view.cameras["primary"] == "primary"
    assert (await render(pool, MOVING.replace(' name="side"', ""))).view.cameras["primary"] == "camera 0"


async def test_a_request_may_choose_its_cameras_and_have_no_wrist(pool):
    chosen = await render(pool, MOVING, camera="wrist", wrist_camera="top")
    assert chosen.view.cameras == {"primary": "wrist", "wrist": "top"}
    alone = await render(pool, MOVING, camera="top", wrist_camera="")
    assert list(alone.view.images) == ["primary"]


async def test_a_policy_s_cameras_see_what_is_named_as_they_are(pool):
    scene = MOVING.replace('"side"', '"left"')
    seen = (await render(pool, scene, cameras={"top": None, "left": None, "wrist_left": None})).view
    assert seen.cameras == {"top": "top", "left": "left"}
    assert list(seen.images) == ["top", "left"]


async def test_the_first_camera_sees_what_no_other_of_the_policy_s_does(pool):
    scene = MOVING.replace('"side"', '"left"')
    assert (await render(pool, scene, cameras={"base": None, "left": None})).view.cameras["base"] == "top"
    wanted = {"base": "wrist", "left": "top", "right": ""}
    assert (await render(pool, scene, cameras=wanted)).view.cameras == {"base": "wrist", "left": "top"}


async def test_an_unknown_camera_is_told_with_the_scene_s_own(pool):
    for wanted in ({"camera": "wrst"}, {"wrist_camera": "wrst"}):
        with pytest.raises(UnknownName, match="camera 'wrst' is not known") as caught:
            await render(pool, MOVING, **wanted)
        assert (caught.value.code, caught.value.hint) == ("unknown_camera", "available: side, top, wrist")


async def test_a_scene_without_a_camera_is_told_how_to_get_one(pool):
    with pytest.raises(SceneError, match="the scene has no camera") as caught:
        await render(pool, "<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
    camera = caught.value.hint[caught.value.hint.index("<camera") :]
    xml = f"<mujoco><worldbody><geom size='0.1' rgba='1 0 0 1'/>{camera}</worldbody></mujoco>"
    image = (await render(pool, xml)).view.images["primary"]
    assert len(where(image, "red")[0]) > 100, "the camera of the hint looks at the origin"


async def test_a_scene_with_only_a_wrist_camera_asks_for_a_choice(pool):
    xml = "<mujoco><worldbody><geom size='1'/><camera name='wrist' pos='0 0 3'/></worldbody></mujoco>"
    with pytest.raises(SceneError, match="no camera for the policy's 'primary', only wrist"):
        await render(pool, xml)
    assert (await render(pool, xml, camera="wrist")).view.cameras["primary"] == "wrist"


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<mujoco>\n<worldbody>\n<geom/>\n</worldbody></mujoco>", "size 0 must be positive in geom .* line 3"),
        ("<mujoco>\n\n<wordlbody/></mujoco>", "line 3"),
        ("<mujoco>\n<worldbody><geom size='nan'/></worldbody></mujoco>", "line 2"),
        ("<mujoco><worldbody><geom type='mesh' mesh='m'/></worldbody></mujoco>", "mesh"),
    ],
)
async def test_what_mujoco_says_of_a_scene_reaches_the_client_with_its_line(pool, xml, message):
    with pytest.raises(SceneError, match=message) as caught:
        await render(pool, xml)
    assert caught.value.code == "scene_invalid"
    assert "Traceback" not in caught.value.message


@pytest.mark.parametrize("size", [(0, 224), (224, -1), (100_000, 224)])
async def test_images_of_impossible_sizes_are_refused(pool, size):
    with pytest.raises(SceneRefused, match="cannot be rendered"):
        await render(pool, MOVING, height=size[0], width=size[1])


async def test_a_flexible_body_takes_its_mesh_from_an_asset(pool):
    xml = """<mujoco><worldbody><light pos="0 0 3"/>
        <flexcomp name="cloth" type="mesh" file="folder/cloth.obj" dim="2" radius="0.01" rgba="1 0 0 1">
          <edge equality="true"/></flexcomp><camera pos="0.2 0.2 2"/></worldbody></mujoco>"""
    cloth = b"v 0 0 0\nv 0.8 0 0\nv 0 0.8 0\nv 0.8 0.8 0.1\nf 1 2 3\nf 2 4 3\n"
    reply = await render(pool, xml, {"folder/cloth.obj": cloth})
    assert len(where(reply.view.images["primary"], "red")[0]) > 1000
