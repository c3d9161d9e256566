# /// script
# requires-python = ">=3.10"
# dependencies = ["openpi-client", "typing_extensions"]
# ///
"""openpi's own client, with its ActionChunkBroker, runs two episodes of one seed, then sends what openpi's robots see.

Keys, shapes and dtypes are those of examples/simple_client, examples/aloha_sim and `_parse_image` of openpi's policies.
"""

import argparse
from collections.abc import Callable

import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from pictures import check_seen, picture

SIZE = 224


def main() -> None:
    """Run the episodes, and be told of what is refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    client = WebsocketClientPolicy("127.0.0.1", asked.port)
    metadata = client.get_server_metadata()
    one, other = episode(client, asked.steps), episode(client, asked.steps)
    assert one.shape == (asked.steps, metadata["action_dim"]), one.shape
    np.testing.assert_array_equal(one, other)
    chunks = ActionChunkBroker(client, action_horizon=metadata["action_horizon"])
    rows = [chunks.infer(libero(step))["actions"] for step in range(asked.steps)]
    assert {row.shape for row in rows} == {(metadata["action_dim"],)}
    for environment in (aloha, aloha_sim, droid, libero, floats, floats_channels_first):
        run_simple_client(client, environment)
    try:
        client.infer({"prompt": "lift it"})
    except RuntimeError as error:
        assert "there is no image" in str(error), error
    else:
        raise AssertionError("an observation without an image was not refused")
    client.infer(libero(0))


def episode(client: WebsocketClientPolicy, num_steps: int) -> np.ndarray:
    """Return the action of each step."""
    start = {"reset": True, "seed": 7}
    return np.array(
        [client.infer({**libero(step), **(start if step == 0 else {})})["actions"][0] for step in range(num_steps)]
    )


def run_simple_client(client: WebsocketClientPolicy, observation: Callable[[int], dict]) -> None:
    """Do what openpi's examples/simple_client does, and see that the policy saw the images that were sent."""
    metadata = client.get_server_metadata()
    for step in range(4):
        answer = client.infer(observation(step))
        assert answer["actions"].shape == (metadata["action_horizon"], metadata["action_dim"]), observation.__name__
        check_seen(answer["actions"][0], step, wrist=observation is not aloha_sim, size=SIZE)
        timings = {**answer["server_timing"], **answer["policy_timing"]}
        assert np.isfinite(list(timings.values())).all(), timings


def aloha(step: int) -> dict:
    """Return what simple_client makes up for ALOHA: four cameras, channels first, and fourteen joints."""
    cameras = {"cam_high": "primary", "cam_low": "primary", "cam_left_wrist": "wrist", "cam_right_wrist": "wrist"}
    return {
        "state": np.ones(14),
        "images": {name: channels_first(picture(step, camera, SIZE)) for name, camera in cameras.items()},
        "prompt": "do something",
    }


def aloha_sim(step: int) -> dict:
    """Return what examples/aloha_sim sends: one camera, channels first, with no instruction of its own."""
    images = {"cam_high": channels_first(picture(step, "primary", SIZE))}
    return {"state": np.ones(14), "images": images, "prompt": "transfer the cube"}


def droid(step: int) -> dict:
    """Return what simple_client makes up for DROID."""
    return {
        "observation/exterior_image_1_left": picture(step, "primary", SIZE),
        "observation/wrist_image_left": picture(step, "wrist", SIZE),
        "observation/joint_position": np.full(7, 0.5),
        "observation/gripper_position": np.full(1, 0.5),
        "prompt": "do something",
    }


def libero(step: int) -> dict:
    """Return what simple_client makes up for LIBERO."""
    return {
        "observation/state": np.full(8, 0.5),
        "observation/image": picture(step, "primary", SIZE),
        "observation/wrist_image": picture(step, "wrist", SIZE),
        "prompt": "do something",
    }


def floats(step: int) -> dict:
    """Return the same with images of numbers from 0 to 1, as LeRobot's datasets have them."""
    return {
        key: np.float32(value / 255) if isinstance(value, np.ndarray) and value.ndim == 3 else value
        for key, value in libero(step).items()
    }


def floats_channels_first(step: int) -> dict:
    """Return the same with channels first."""
    return {
        key: channels_first(value) if isinstance(value, np.ndarray) and value.ndim == 3 else value
        for key, value in floats(step).items()
    }


def channels_first(image: np.ndarray) -> np.ndarray:
    """Return an image as einops and torch would have it."""
    return np.transpose(image, (2, 0, 1))


if __name__ == "__main__":
    main()
