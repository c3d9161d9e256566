# /// script
# requires-python = ">=3.10"
# dependencies = ["msgpack-numpy", "msgpack", "websockets", "numpy>=1.26"]
# ///
"""The maps of msgpack-numpy as it is on the package index, on openpi's socket and on vla-eval's."""

import argparse
import time
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
from images import check_seen, image_at
from websockets.sync.client import ClientConnection, connect


def main() -> None:
    """Run an episode on each socket."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    url = f"ws://127.0.0.1:{asked.port}"
    with connect(f"{url}/", max_size=None) as socket:
        receive(socket)
        for step in range(asked.steps):
            check_seen(ask(socket, openpi(step))["actions"][0], step)
    with connect(f"{url}/vla-eval", max_size=None) as socket:
        ask(socket, vla_eval("hello", 0, {}))
        for step in range(asked.steps):
            answer = ask(socket, vla_eval("observation", step + 1, benchmark(step)))
            check_seen(answer["payload"]["actions"], step)


def ask(socket: ClientConnection, message: dict) -> Any:
    """Return the answer, its arrays decoded by msgpack-numpy alone."""
    socket.send(msgpack.packb(message, default=msgpack_numpy.encode))
    return receive(socket)


def receive(socket: ClientConnection) -> Any:
    """Return what is said; an error is raised."""
    frame = socket.recv(60)
    assert isinstance(frame, bytes), frame
    content = msgpack.unpackb(frame, object_hook=msgpack_numpy.decode)
    assert content.get("type") != "error", content
    return content


def openpi(step: int) -> dict:
    """Return an observation with a number of numpy's in it."""
    return {
        "observation/image": image_at(step, "primary"),
        "observation/wrist_image": image_at(step, "wrist"),
        "observation/gripper_position": np.float32(0.5),
        "prompt": "lift the red block",
    }


def vla_eval(kind: str, seq: int, payload: dict) -> dict:
    """Return a message of vla-eval's."""
    return {"type": kind, "payload": payload, "seq": seq, "timestamp": time.time()}


def benchmark(step: int) -> dict:
    """Return what a benchmark shows at a step."""
    images = {"agentview": image_at(step, "primary"), "wrist": image_at(step, "wrist")}
    return {"images": images, "task_description": "lift the red block"}


if __name__ == "__main__":
    main()
