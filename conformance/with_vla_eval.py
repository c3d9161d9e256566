# /// script
# requires-python = ">=3.10"
# dependencies = ["vla-eval==0.8.0"]
# ///
"""vla-eval's own connection runs two episodes of one seed, with PNG and with raw pictures; they must be equal."""

import argparse
import asyncio

import numpy as np
from vla_eval.connection import Connection
from vla_eval.protocol.numpy_codec import set_image_format
from vla_eval.specs import DimSpec


async def run(port: int, num_steps: int) -> None:
    """Run the episodes, and be told of what is refused."""
    async with Connection(f"ws://127.0.0.1:{port}/vla-eval") as connection:
        specs = connection.server_info["observation_spec"]
        assert DimSpec.from_dict(specs["image"]).format == "rgb_hwc_uint8", specs
        episodes = []
        for image_format in ("png", "raw"):
            set_image_format(image_format)
            await connection.start_episode({"task": {"name": "lift"}, "seed": 7})
            actions = [(await connection.act(observation(step)))["actions"] for step in range(num_steps)]
            await connection.end_episode({"success": True})
            episodes.append(np.array(actions))
        np.testing.assert_array_equal(*episodes)
        assert episodes[0].ndim == 2, episodes[0].shape
        assert np.isfinite(episodes[0]).all()
        try:
            await connection.act({"images": {}, "task_description": "lift"})
        except RuntimeError as error:
            assert "there is no picture" in str(error), error
        else:
            raise AssertionError("an observation without a picture was not refused")


def observation(step: int) -> dict:
    """Return what a benchmark shows at a step."""
    picture = np.random.default_rng(step).integers(0, 255, (128, 128, 3), np.uint8)
    return {"images": {"agentview": picture, "wrist": picture}, "task_description": "lift the red block"}


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--steps", type=int, default=60)
    asked = parser.parse_args()
    asyncio.run(run(asked.port, asked.steps))


if __name__ == "__main__":
    main()
