"""A scripted reach-and-lift on the bundled scenes: it knows the state, and acts through the controller alone.

It shows that the closed loop is right before any policy is blamed for what an episode came to.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vla_server_base.episodes.interfaces import World
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import RolloutReply, RolloutRequest, Scene, SceneState

OBJECT_QPOS = 7
"""Numbers of qpos for each free object; the red cube's follow the arm's and the two fingers'."""

OBJECT_RADIUS_M = 0.11
"""An open gripper that comes down between two objects this far apart touches neither."""

HOVER_M, LIFT_M, LIFTED_M = 0.10, 0.12, 0.05
ARRIVED_M, ARRIVED_RAD = 0.004, 0.03
STRIDE_M, TURN_RAD = 0.04, 0.25
CLOSING_STEPS, MAX_STEPS = 4, 75


@dataclass(frozen=True, kw_only=True)
class Table:
    """Where a robot's gripper reaches the table from above: x and y, lowest and highest [m], in its base frame."""

    num_joints: int
    x: tuple[float, float]
    y: tuple[float, float]


TABLES = {
    "panda": Table(num_joints=7, x=(0.35, 0.62), y=(-0.28, 0.28)),
    "widowx": Table(num_joints=6, x=(0.2, 0.36), y=(-0.14, 0.14)),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Whether the cube was lifted, and where the last step ended."""

    is_lifted: bool
    num_steps: int
    phase: str


def tabletop(robot: str) -> Scene:
    """Return the scene that a robot lifts the red cube in."""
    return Scene(xml=bundled_scene(robot, "tabletop"))


async def random_start(world: World, robot: str, random: np.random.Generator) -> SceneState:
    """Return the scene's home with the red cube elsewhere on the table, turned, and away from the other objects."""
    table = TABLES[robot]
    qpos = (await world.roll_out(tabletop(robot), RolloutRequest(start=SceneState(), control=None))).state.qpos.copy()
    objects = qpos[table.num_joints + 2 :].reshape(-1, OBJECT_QPOS)
    while True:
        place = np.array([random.uniform(*table.x), random.uniform(*table.y)])
        if np.linalg.norm(objects[1:, :2] - place, axis=1).min() > OBJECT_RADIUS_M:
            break
    half_turn = random.uniform(-np.pi, np.pi) / 2
    objects[0, :2] = place
    objects[0, 3:] = np.cos(half_turn), 0, 0, np.sin(half_turn)
    return SceneState(qpos=qpos)


async def reach_and_lift(world: World, robot: str, start: SceneState) -> Outcome:
    """Lift the red cube by actions of 7 numbers at 5 Hz, for at most 15 s of simulated time."""
    scene = tabletop(robot)
    reply = await world.roll_out(scene, RolloutRequest(start=start))
    script = _Script(reply, TABLES[robot].num_joints)
    for number in range(MAX_STEPS):
        request = RolloutRequest(start=reply.end, actions=script.action()[None])
        reply = await world.roll_out(scene, request)
        script.see(reply)
        if script.phase == "done":
            return Outcome(is_lifted=script.rise > LIFTED_M, num_steps=number + 1, phase=script.phase)
    return Outcome(is_lifted=False, num_steps=MAX_STEPS, phase=script.phase)


class _Script:
    """Hover over the cube, come down, close, lift; each when the one before has come true in the simulation."""

    def __init__(self, reply: RolloutReply, num_joints: int):
        self._object = slice(num_joints + 2, num_joints + 2 + OBJECT_QPOS)
        self.phase = "hover"
        self._num_steps_in_phase = 0
        assert reply.pose is not None, "a controlled rollout has an arm"
        # Deltas add up to the pose that the controller aims at, from where it began.
        self._aim, self._aim_yaw = reply.pose.position.copy(), _yaw(reply.pose.quaternion)
        cube = reply.state.qpos[self._object]
        self._cube_at_start = cube
        turn = (_yaw(cube[3:]) - self._aim_yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4
        self._goal_yaw = self._aim_yaw + turn
        self._goal = cube[:3] + np.array([0, 0, HOVER_M])
        self.rise = 0.0

    def action(self) -> Float[np.ndarray, " 7"]:
        step = self._goal - self._aim
        step *= min(1.0, STRIDE_M / max(float(np.linalg.norm(step)), 1e-9))
        turn = float(np.clip(self._goal_yaw - self._aim_yaw, -TURN_RAD, TURN_RAD))
        self._aim, self._aim_yaw = self._aim + step, self._aim_yaw + turn
        is_open = self.phase in ("hover", "come down")
        return np.array([*step, 0, 0, turn, float(is_open)])

    def see(self, reply: RolloutReply) -> None:
        self._num_steps_in_phase += 1
        pose = reply.steps[-1].pose
        self.rise = float(reply.steps[-1].state.qpos[self._object][2] - self._cube_at_start[2])
        has_arrived = bool(
            np.linalg.norm(pose.position - self._goal) < ARRIVED_M
            and abs(_turn(_yaw(pose.quaternion) - self._goal_yaw)) < ARRIVED_RAD
        )
        if self.phase == "hover" and has_arrived:
            self._enter("come down", self._cube_at_start[:3])
        elif self.phase == "come down" and has_arrived:
            self._enter("close", self._goal)
        elif self.phase == "close" and self._num_steps_in_phase >= CLOSING_STEPS:
            self._enter("lift", self._goal + np.array([0, 0, LIFT_M]))
        elif self.phase == "lift" and np.allclose(self._aim, self._goal) and self._num_steps_in_phase >= 6:
            self._enter("done", self._goal)

    def _enter(self, phase: str, goal: Float[np.ndarray, " 3"]) -> None:
        self.phase, self._goal, self._num_steps_in_phase = phase, goal, 0


def _yaw(quaternion: Float[np.ndarray, " 4"]) -> float:
    """Return the direction of the x axis in the plane of the table."""
    w, x, y, z = quaternion
    return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))


def _turn(angle: float) -> float:
    return (angle + np.pi) % (2 * np.pi) - np.pi
