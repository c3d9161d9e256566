# /// script
# requires-python = ">=3.10"
# dependencies = ["vla-eval", "pillow"]
# ///
"""vla-eval's own connection runs an episode of ACT with PNG and with raw images, and is told of what is missing."""

import asyncio

from act_robot import CAMERAS, arguments, check_equal, seen_at, to_execute
from vla_eval.connection import Connection
from vla_eval.protocol.numpy_codec import set_image_format


async def run(port: int, url: str, num_steps: int) -> None:
    """Run the episodes, and leave out a camera and the state."""
    expected = to_execute(url, num_steps)
    async with Connection(f"ws://127.0.0.1:{port}/vla-eval") as connection:
        for image_format in ("png", "raw"):
            set_image_format(image_format)
            await connection.start_episode({"task": {"name": "lift"}})
            executed = [(await connection.act(observation(step)))["actions"] for step in range(num_steps)]
            await connection.end_episode({"success": True})
            check_equal(executed, expected)
        await connection.start_episode({"task": {"name": "lift"}})
        for missing in (*CAMERAS, "states"):
            await check_refused(connection, missing)
        check_equal((await connection.act(observation(0)))["actions"], expected[0])
    print(f"vla-eval: 2 x {num_steps} actions of ACT equal those of POST /predict, bit for bit")


def observation(step: int, *, missing: str = "") -> dict:
    """Return what a benchmark with the policy's cameras shows at a step."""
    seen = seen_at(step)
    images = {name: image for name, image in seen.images.items() if name != missing}
    state = {} if missing == "states" else {"states": seen.state}
    return {"images": images, **state, "task_description": "pick up the red cube"}


async def check_refused(connection: Connection, missing: str) -> None:
    """See that the connection says what is missing."""
    try:
        await connection.act(observation(0, missing=missing))
    except RuntimeError as error:
        assert missing in str(error), error
    else:
        raise AssertionError(f"an observation without {missing} was not refused")


def main() -> None:
    """Parse the arguments and run."""
    asked = arguments(__doc__).parse_args()
    asyncio.run(run(asked.port, asked.url, asked.steps))


if __name__ == "__main__":
    main()
