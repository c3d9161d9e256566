# /// script
# requires-python = ">=3.10"
# dependencies = ["vla-eval"]
# ///
"""vla-eval's own connection runs two episodes of one seed, with PNG and with raw images, and one in live mode."""

import argparse
import asyncio

import numpy as np
from pictures import check_seen, picture
from vla_eval.connection import Connection
from vla_eval.protocol.messages import MessageType
from vla_eval.protocol.numpy_codec import set_image_format


async def run(port: int, num_steps: int) -> None:
    """Run the episodes, and be told of what is refused."""
    async with Connection(f"ws://127.0.0.1:{port}/vla-eval") as connection:
        specs = connection.server_info["observation_spec"]
        assert specs["image"]["format"] == "rgb_hwc_uint8", specs
        episodes = []
        for image_format in ("png", "raw"):
            set_image_format(image_format)
            await connection.start_episode({"task": {"name": "lift"}, "seed": 7})
            actions = [(await connection.act(observation(step)))["actions"] for step in range(num_steps)]
            await connection.end_episode({"success": True})
            episodes.append(np.array(actions))
        np.testing.assert_array_equal(*episodes)
        assert episodes[0].ndim == 2, episodes[0].shape
        for step, action in enumerate(episodes[0]):
            check_seen(action, step)
        await run_live(connection, num_steps)
        try:
            await connection.act({"images": {}, "task_description": "lift"})
        except RuntimeError as error:
            assert "there is no image" in str(error), error
        else:
            raise AssertionError("an observation without an image was not refused")


async def run_live(connection: Connection, num_steps: int) -> None:
    """Send observations without waiting: each is answered or said to be overtaken, the newest is answered."""
    await connection.start_episode({"task": {"name": "lift"}, "mode": "live"})
    for step in range(num_steps):
        await connection.send_observation(observation(step))
    answers = [await connection.recv() for _ in range(num_steps)]
    assert len({answer.seq for answer in answers}) == num_steps, "an observation was answered twice"
    newest = max(answers, key=lambda answer: answer.seq)
    assert newest.type is MessageType.ACTION, newest
    check_seen(newest.payload["actions"], num_steps - 1)
    await connection.end_episode({"success": True})


def observation(step: int) -> dict:
    """Return what a benchmark shows at a step."""
    images = {"agentview": picture(step, "primary"), "wrist": picture(step, "wrist")}
    return {"images": images, "task_description": "lift the red block"}


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    asyncio.run(run(asked.port, asked.steps))


if __name__ == "__main__":
    main()
