"""Records where a simulation's moving bodies are, 30 frames a simulated second."""

import mujoco
import numpy as np

from vla_server_base.scenes.messages import BodyPoses, num_pose_frames


def moving_bodies(model: mujoco.MjModel) -> np.ndarray:
    """Return the ids of the bodies that are not welded to the world."""
    return np.flatnonzero(model.body_weldid)


def num_frames(num_steps: int, seconds: float) -> int:
    """Return the number of frames of `seconds`, which take `num_steps` physics steps: no more than there are steps."""
    return min(num_steps, num_pose_frames(seconds))


class PoseTrack:
    """The frames of a number of physics steps, equally spaced, the last at their end."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, num_steps: int, seconds: float):
        self._model, self._data = model, data
        self._bodies = moving_bodies(model)
        count = num_frames(num_steps, seconds)
        self._frame_steps = {round(num_steps * number / count) for number in range(1, count + 1)}
        self._times: list[float] = []
        self._poses: list[np.ndarray] = []

    def update(self, number: int) -> None:
        """Include the state after the physics step `number`, counted from 1, if it is a frame.

        Changes nothing that the simulation reads: the next physics step begins with the same computation.
        """
        if number in self._frame_steps:
            mujoco.mj_kinematics(self._model, self._data)
            self._times.append(float(self._data.time))
            self._poses.append(_poses(self._data, self._bodies))

    def body_poses(self) -> BodyPoses:
        """Return the frames."""
        poses = np.array(self._poses).reshape(-1, len(self._bodies), 7)
        return BodyPoses(times_s=np.array(self._times), poses=poses)


def poses_now(model: mujoco.MjModel, data: mujoco.MjData) -> BodyPoses:
    """Return one frame: the present state, whose kinematics are computed."""
    return BodyPoses(times_s=np.array([data.time]), poses=_poses(data, moving_bodies(model))[None])


def joined(first: BodyPoses, second: BodyPoses) -> BodyPoses:
    """Return the frames of both, in this order."""
    return BodyPoses(
        times_s=np.concatenate([first.times_s, second.times_s]), poses=np.concatenate([first.poses, second.poses])
    )


def _poses(data: mujoco.MjData, bodies: np.ndarray) -> np.ndarray:
    return np.hstack([data.xpos[bodies], data.xquat[bodies]])
