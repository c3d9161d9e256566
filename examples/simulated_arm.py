"""A bundled arm at its table in MuJoCo, as the control loop takes an arm: python examples/simulated_arm.py.

Its clock is the simulation's, which stands still while the policy thinks and while images are drawn.
"""

import time
from typing import Any, cast

import mujoco
import numpy as np
from widowx_control_loop import DEADLINE_MS, RATE_HZ, URL, run

from vla_client import Policy
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import ControlSettings, RenderQuality
from vla_server_base.scenes.worker.arms.arm_search import find_arm
from vla_server_base.scenes.worker.arms.controllers import Controller
from vla_server_base.scenes.worker.rendering.renderer import open_renderer

GEOM_GROUPS = (0, 1, 2)  # those that MuJoCo shows


class SimulatedArm:
    """The arm of a bundled scene, at home, its gripper open."""

    def __init__(self, renderer, robot="widowx", scene="tabletop"):
        self.model = mujoco.MjSpec.from_string(bundled_scene(robot, scene)).compile()
        self.data = mujoco.MjData(self.model)
        self._drawing = renderer.prepare(self.model)
        self._arm = find_arm(self.model, None)
        self._controller = Controller(self._arm, ControlSettings(rate_hz=RATE_HZ))
        self.begin()

    def begin(self):
        """Stand at home."""
        mujoco.mj_resetDataKeyframe(self.model, self.data, self.model.key("home").id)
        mujoco.mj_forward(self.model, self.data)
        self._before = self._after = self._controller.start(self.data)
        self._left_at = 0.0

    def see(self):
        """Return both images, RGB, and when they were taken, of time.monotonic."""
        seen_at = time.monotonic()
        cameras = {name: self.model.camera(name).id for name in ("primary", "wrist")}
        images = {
            name: self._drawing.draw(self.data, camera, 224, 224, GEOM_GROUPS) for name, camera in cameras.items()
        }
        return images, seen_at

    def goal(self):
        """Return where the gripper's tip was last sent (4x4), in the frame of the base."""
        return _matrix(*self._arm.forward(self.data, self._after.joint_targets))

    def stands(self):
        """Return where the gripper's tip is (4x4), in the frame of the base."""
        return _matrix(*self._arm.pose(self.data))

    def go(self, pose, is_open):
        """Set out for a pose, to be there a control step later."""
        goal = self.goal()
        action = np.array(
            [*(pose[:3, 3] - goal[:3, 3]), *_roll_pitch_yaw(pose[:3, :3] @ goal[:3, :3].T), is_open], float
        )
        self._before, self._left_at = self._after, self.data.time
        self._after, _ = self._controller.command(self.data, self._before, action)

    def hold(self):
        """Stay where it was last sent."""

    def monotonic(self):
        """Return the simulation's time [s]."""
        return self.data.time

    def sleep(self, seconds):
        """Let the simulation go on."""
        for _ in range(round(seconds / self.model.opt.timestep)):
            fraction = min(1.0, (self.data.time - self._left_at) * RATE_HZ)
            self._controller.drive(self.data, self._before, self._after, fraction)
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)


def _matrix(position, quaternion):
    pose, rotation = np.eye(4), np.empty(9)
    mujoco.mju_quat2Mat(rotation, quaternion)
    pose[:3, 3], pose[:3, :3] = position, rotation.reshape(3, 3)
    return pose


def _roll_pitch_yaw(turn):
    return (
        np.arctan2(turn[2, 1], turn[2, 2]),
        -np.arcsin(np.clip(turn[2, 0], -1, 1)),
        np.arctan2(turn[1, 0], turn[0, 0]),
    )


if __name__ == "__main__":
    arm = SimulatedArm(open_renderer("raycast", RenderQuality()))
    with Policy(URL, deadline_ms=DEADLINE_MS, seed=0) as policy:
        run(arm, policy, "pick up the red cube", num_steps=30, clock=cast(Any, arm))
    height = arm.data.body("red_cube").xpos[2]
    print(f"the gripper's tip is at {arm.stands()[:3, 3].round(3)} m, the red cube at a height of {height:.3f} m")
