"""Which groups of geoms an image shows."""

import mujoco
import numpy as np

from vla_server_base.scenes.messages import NUM_GEOM_GROUPS

COLLISION, VISUAL = 0, 1
"""The groups of robosuite, and of LIBERO, robomimic and all else that is made with it."""


def groups_to_draw(model: mujoco.MjModel) -> tuple[int, ...]:
    """Return the groups that the scene's author means to be seen: MuJoCo's own choice, 0 to 2, or robosuite's.

    robosuite draws no group 0 if it holds the shapes that collide, over which group 1 lies as what is seen: every
    geom of group 0 collides, and a geom of group 1 that collides with nothing lies on the same rigid body.
    """
    usual = tuple(int(group) for group in np.flatnonzero(mujoco.MjvOption().geomgroup))
    colliding = (model.geom_contype | model.geom_conaffinity) != 0
    # Bodies fixed to the world are distinguished by their outermost bodies.
    fixed = model.body_weldid == 0
    rigid_bodies = np.where(fixed, model.body_rootid, model.body_weldid)[model.geom_bodyid]
    shapes, looks = model.geom_group == COLLISION, (model.geom_group == VISUAL) & ~colliding
    is_robosuite = shapes.any() and colliding[shapes].all() and np.isin(rigid_bodies[shapes], rigid_bodies[looks]).all()
    return tuple(group for group in usual if not (is_robosuite and group == COLLISION))


def as_flags(groups: tuple[int, ...]) -> np.ndarray:
    """Return a flag for each group, as MuJoCo takes them."""
    return np.isin(np.arange(NUM_GEOM_GROUPS), groups).astype(np.uint8)
