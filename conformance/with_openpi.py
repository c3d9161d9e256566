# /// script
# requires-python = ">=3.10,<3.13"
# dependencies = ["openpi-client==0.1.2", "typing_extensions"]
# ///
"""openpi's own client, with its ActionChunkBroker, runs two episodes of one seed; they must be equal."""

import argparse

import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy


def main() -> None:
    """Run the episodes, and be told of what is refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--steps", type=int, default=60)
    asked = parser.parse_args()
    client = WebsocketClientPolicy("127.0.0.1", asked.port)
    metadata = client.get_server_metadata()
    one, other = episode(client, asked.steps), episode(client, asked.steps)
    assert one.shape == (asked.steps, metadata["action_dim"]), one.shape
    np.testing.assert_array_equal(one, other)
    chunks = ActionChunkBroker(client, action_horizon=metadata["action_horizon"])
    rows = [chunks.infer(observation(step))["actions"] for step in range(asked.steps)]
    assert {row.shape for row in rows} == {(metadata["action_dim"],)}
    try:
        client.infer({"prompt": "lift it"})
    except RuntimeError as error:
        assert "there is no picture" in str(error), error
    else:
        raise AssertionError("an observation without a picture was not refused")
    client.infer(observation(0))


def episode(client: WebsocketClientPolicy, num_steps: int) -> np.ndarray:
    """Return the action of each step."""
    start = {"reset": True, "seed": 7}
    return np.array(
        [client.infer({**observation(step), **(start if step == 0 else {})})["actions"][0] for step in range(num_steps)]
    )


def observation(step: int) -> dict:
    """Return what a robot sees at a step."""
    picture = np.random.default_rng(step).integers(0, 255, (224, 224, 3), np.uint8)
    return {"observation/image": picture, "observation/wrist_image": picture, "prompt": "lift the red block"}


if __name__ == "__main__":
    main()
