"""Which groups of geoms an image shows: what the request says, the setting, or what the scene is made of."""

import numpy as np
import pytest
from plain_scene import render, running

from vla_server_base.config import ConfigError, ServerConfig

pytestmark = pytest.mark.anyio

LIGHT = '<light pos="0 0 3"/><camera name="primary" pos="0 0 1.5"/>'
# What is seen, white, lies within the shape that collides, green.
ROBOSUITE = f"""
<mujoco>
  <worldbody>{LIGHT}
    <geom type="plane" size="1 1 .1" group="1"/>
    <body pos="0 0 .3">
      <geom group="1" type="box" size=".2 .2 .2" contype="0" conaffinity="0"/>
      <body name="welded"><geom group="0" type="box" size=".21 .21 .21" rgba="0 .5 0 1"/></body>
    </body>
  </worldbody>
</mujoco>
"""
# Another body has only one geom, of group 0, which would be missing.
MIXED = ROBOSUITE.replace("</worldbody>", '<body pos=".5 0 .3"><geom size=".1" rgba="0 0 1 1"/></body></worldbody>')
DECORATED = ROBOSUITE.replace('group="0"', 'group="0" contype="0" conaffinity="0"')


def middle(image: np.ndarray) -> list[int]:
    return image[112, 112].tolist()


def is_green(pixel: list[int]) -> bool:
    return pixel[1] > pixel[0] + 40 and pixel[1] > pixel[2] + 40


async def test_a_scene_of_robosuites_kind_is_drawn_without_what_collides(pools):
    for pool in pools.values():
        view = (await render(pool, ROBOSUITE)).view
        assert view.geom_groups == (1, 2)
        assert not is_green(middle(view.images["primary"]))


@pytest.mark.parametrize("xml", [MIXED, DECORATED])
async def test_every_other_scene_is_drawn_as_mujoco_draws_it(pools, xml):
    for pool in pools.values():
        view = (await render(pool, xml)).view
        assert view.geom_groups == (0, 1, 2)
        assert is_green(middle(view.images["primary"]))


async def test_a_request_chooses_the_groups(pools):
    for pool in pools.values():
        shown = {groups: (await render(pool, ROBOSUITE, geom_groups=groups)).view for groups in ((0,), (1,), (5,))}
        assert [view.geom_groups for view in shown.values()] == [(0,), (1,), (5,)]
        green, white, black = (middle(view.images["primary"]) for view in shown.values())
        assert is_green(green)
        assert min(white) > 60
        assert max(black) == 0


async def test_the_setting_counts_where_a_request_does_not_say():
    async with running(renderer="raycast", scene_workers=1, scene_geom_groups="0 3") as pool:
        assert (await render(pool, ROBOSUITE)).view.geom_groups == (0, 3)
        assert (await render(pool, ROBOSUITE, geom_groups=(1,))).view.geom_groups == (1,)


@pytest.mark.parametrize("groups", ["6", "0,1", "-1", "0  1", "all"])
def test_a_setting_of_no_groups_is_refused(groups):
    with pytest.raises(ConfigError):
        ServerConfig(scene_geom_groups=groups)
