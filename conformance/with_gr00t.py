# /// script
# requires-python = ">=3.10"
# dependencies = ["pyzmq==27.3.0", "msgpack==1.2.4", "numpy>=1.26"]
# ///
"""What GR00T's PolicyClient sends by pyzmq and msgpack: two robots at once, each two episodes of one seed.

GR00T itself is on no package index; this follows its gr00t/policy/server_client.py.
"""

import argparse
import io

import msgpack
import numpy as np
import zmq


class Robot:
    """A REQ socket, on which one question is asked at a time."""

    def __init__(self, context: zmq.Context, port: int):
        self._socket = context.socket(zmq.REQ)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.RCVTIMEO, 60_000)
        self._socket.connect(f"tcp://127.0.0.1:{port}")

    def ask(self, endpoint: str, data: dict | None = None):
        """Return the reply; an error is raised."""
        request = {"endpoint": endpoint} if data is None else {"endpoint": endpoint, "data": data}
        self._socket.send(msgpack.packb(request, default=encode))
        reply = msgpack.unpackb(self._socket.recv(), object_hook=decode)
        if isinstance(reply, dict) and "error" in reply:
            raise RuntimeError(reply["error"])
        return reply

    def act(self, step: int) -> np.ndarray:
        """Return the action to execute now."""
        actions, _ = self.ask("get_action", {"observation": observation(step), "options": None})
        return np.array([array[0, 0, 0] for array in actions.values()])


def main() -> None:
    """Run the episodes, and be told of what is refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--steps", type=int, default=60)
    asked = parser.parse_args()
    with zmq.Context() as context:
        robots = [Robot(context, asked.port) for _ in range(2)]
        assert robots[0].ask("ping")["status"] == "ok"
        assert robots[0].ask("get_modality_config")["video"]["as_json"]["delta_indices"] == [0]
        episodes = []
        for _ in range(2):
            for seed, robot in enumerate(robots):
                robot.ask("reset", {"options": {"seed": seed}})
            episodes.append([[robot.act(step) for robot in robots] for step in range(asked.steps)])
        np.testing.assert_array_equal(*episodes)
        assert not np.array_equal(*np.moveaxis(np.array(episodes[0]), 1, 0)), "two robots act as one"
        try:
            robots[0].ask("kill")
        except RuntimeError as error:
            assert "may not end" in str(error), error
        robots[0].act(0)
        context.destroy()


def observation(step: int) -> dict:
    """Return what a robot sees at a step."""
    video = np.random.default_rng(step).integers(0, 255, (1, 1, 128, 128, 3), np.uint8)
    return {"video": {"primary": video, "wrist": video}, "language": {"task": [["lift the red block"]]}}


def encode(value):
    """Return an array as GR00T writes it."""
    if not isinstance(value, np.ndarray):
        return value
    file = io.BytesIO()
    np.save(file, value, allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}


def decode(content):
    """Return the array that a map stands for."""
    if "__ndarray_class__" in content:
        return np.load(io.BytesIO(content["as_npy"]), allow_pickle=False)
    return content


if __name__ == "__main__":
    main()
