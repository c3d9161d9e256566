# /// script
# requires-python = ">=3.10"
# dependencies = ["pyzmq", "msgpack", "msgpack-numpy", "numpy>=1.26"]
# ///
"""What GR00T's clients of N1.5, N1.6 and N1.7 send by pyzmq and msgpack: two robots at once, each two episodes.

GR00T itself is on no package index; this follows its gr00t/eval/service.py (N1.5) and gr00t/policy/server_client.py.
"""

import argparse
import io
import json
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import zmq
from images import check_seen, image_at


class Robot:
    """A REQ socket, on which one question is asked at a time, in the words of N1.6."""

    def __init__(self, context: zmq.Context, port: int):
        self._socket = context.socket(zmq.REQ)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.RCVTIMEO, 60_000)
        self._socket.connect(f"tcp://127.0.0.1:{port}")

    def ask(self, endpoint: str, data: dict | None = None) -> Any:
        """Return the reply; an error is raised."""
        request = {"endpoint": endpoint} if data is None else {"endpoint": endpoint, "data": data}
        self._socket.send(msgpack.packb(request, default=self.encode))
        reply = msgpack.unpackb(self._socket.recv(), object_hook=self.decode)
        if isinstance(reply, dict) and "error" in reply:
            raise RuntimeError(reply["error"])
        return reply

    def begin(self, seed: int) -> None:
        """Begin an episode."""
        self.ask("reset", {"options": {"seed": seed}})

    def act(self, step: int) -> np.ndarray:
        """Return the action to execute now."""
        actions, _ = self.ask("get_action", {"observation": self.observation(step), "options": None})
        assert all(array.shape[0] == array.shape[2] == 1 for array in actions.values()), actions
        return np.array([array[0, 0, 0] for array in actions.values()])

    def observation(self, step: int) -> dict:
        """Return what a robot sees at a step, one of a batch and of a window."""
        video = {camera: image_at(step, camera)[None, None] for camera in ("primary", "wrist")}
        state = {"x": np.zeros((1, 1, 1), np.float32), "gripper": np.zeros((1, 1, 1), np.float32)}
        return {"video": video, "state": state, "language": {"task": [["lift the red block"]]}}

    def encode(self, value: Any) -> Any:
        """Return an array as GR00T writes it."""
        if not isinstance(value, np.ndarray):
            return value
        file = io.BytesIO()
        np.save(file, value, allow_pickle=False)
        return {"__ndarray_class__": True, "as_npy": file.getvalue()}

    def decode(self, content: dict) -> Any:
        """Return what a map stands for."""
        if "__ModalityConfig_class__" in content:
            return self.modality(content["as_json"])
        if "__ndarray_class__" in content:
            return np.load(io.BytesIO(content["as_npy"]), allow_pickle=False)
        return content

    def modality(self, content: Any) -> dict:
        """Return what the policy takes or gives of a kind."""
        return dict(content)


class N15Robot(Robot):
    """N1.5's ExternalRobotInferenceClient, LeIsaac's, phosphobot's: flat maps both ways, and no reset."""

    def begin(self, seed: int) -> None:
        """There is no such endpoint; without one, an episode has the seed that its session was given."""

    def act(self, step: int) -> np.ndarray:
        """Return the action to execute now."""
        actions = self.ask("get_action", self.observation(step))
        assert all(key.startswith("action.") for key in actions), actions.keys()
        return np.array([np.atleast_1d(array[0])[0] for array in actions.values()])

    def observation(self, step: int) -> dict:
        """Return what a robot sees at a step, one of a window."""
        video = {f"video.{camera}": image_at(step, camera)[None] for camera in ("primary", "wrist")}
        state = {"state.single_arm": np.zeros((1, 5)), "state.gripper": np.zeros((1, 1))}
        return {**video, **state, "annotation.human.task_description": ["lift the red block"]}

    def modality(self, content: Any) -> dict:
        """Return what the policy takes or gives of a kind, which is text here."""
        return json.loads(content)


class N17Robot(Robot):
    """N1.7's PolicyClient: what N1.6 says, its arrays as msgpack-numpy has them and in no other way."""

    def observation(self, step: int) -> dict:
        """Return what a robot sees at a step."""
        return {
            **super().observation(step),
            "language": {"annotation.human.task_description": [["lift the red block"]]},
        }

    def encode(self, value: Any) -> Any:
        """Return an array as msgpack-numpy writes it."""
        return msgpack_numpy.encode(value)

    def decode(self, content: dict) -> Any:
        """Return what a map stands for."""
        if "__ModalityConfig__" in content or "__ModalityConfig_class__" in content:
            return self.modality(content["as_json"])
        return msgpack_numpy.decode(content)


ROBOTS = {"n1.5": N15Robot, "n1.6": Robot, "n1.7": N17Robot}


def main() -> None:
    """Run the episodes, and be told of what is refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--wire", choices=ROBOTS, default="n1.7")
    asked = parser.parse_args()
    with zmq.Context() as context:
        robots = [ROBOTS[asked.wire](context, asked.port) for _ in range(2)]
        assert robots[0].ask("ping")["status"] == "ok"
        episodes = [run_episode(robots, asked.steps) for _ in range(2)]
        if asked.wire != "n1.5":
            np.testing.assert_array_equal(episodes[0], episodes[1])
        assert not np.array_equal(*np.moveaxis(episodes[0], 1, 0)), "two robots act as one"
        assert robots[0].ask("get_modality_config")["video"]["delta_indices"] == [0]
        try:
            robots[0].ask("kill")
        except RuntimeError as error:
            assert "cannot end this server" in str(error), error
        else:
            raise AssertionError("a client ended the server")
        robots[0].act(0)
        context.destroy()


def run_episode(robots: list[Robot], num_steps: int) -> np.ndarray:
    """Return the actions of each step and robot."""
    for seed, robot in enumerate(robots):
        robot.begin(seed)
    actions = np.array([[robot.act(step) for robot in robots] for step in range(num_steps)])
    for step, both in enumerate(actions):
        for action in both:
            check_seen(action, step)
    return actions


if __name__ == "__main__":
    main()
