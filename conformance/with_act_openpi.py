# /// script
# requires-python = ">=3.10"
# dependencies = ["openpi-client", "typing_extensions", "pillow"]
# ///
"""openpi's own client and its ActionChunkBroker run an episode of ACT, and are told of what is missing."""

from act_robot import CAMERAS, HORIZON, NUM_EXECUTED, arguments, check_equal, predicted, seen_at, to_execute
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy


def main() -> None:
    """Run the episode, and leave out a camera and the state."""
    asked = arguments(__doc__).parse_args()
    client = WebsocketClientPolicy("127.0.0.1", asked.port)
    assert client.get_server_metadata()["action_horizon"] == HORIZON
    broker = ActionChunkBroker(client, action_horizon=NUM_EXECUTED)
    executed = [broker.infer(message(step))["actions"] for step in range(asked.steps)]
    check_equal(executed, to_execute(asked.url, asked.steps))
    for step in range(4):
        check_equal(client.infer(message(step))["actions"], predicted(asked.url, seen_at(step)))
    for missing in (*CAMERAS, "state"):
        check_refused(client, missing)
    check_equal(client.infer(message(5))["actions"], predicted(asked.url, seen_at(5)))
    print(f"openpi-client: {len(executed)} actions of ACT equal those of POST /predict, bit for bit")


def message(step: int) -> dict:
    """Return an observation by the policy's names."""
    seen = seen_at(step)
    images = {f"observation.images.{name}": image for name, image in seen.images.items()}
    return {**images, "observation.state": seen.state, "prompt": "pick up the red cube"}


def check_refused(client: WebsocketClientPolicy, missing: str) -> None:
    """See that the client says what is missing."""
    try:
        client.infer({key: value for key, value in message(0).items() if not key.endswith(missing)})
    except RuntimeError as error:
        assert missing in str(error), error
    else:
        raise AssertionError(f"an observation without {missing} was not refused")


if __name__ == "__main__":
    main()
