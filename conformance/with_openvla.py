# /// script
# requires-python = ">=3.10"
# dependencies = ["json-numpy", "requests", "numpy>=1.26"]
# ///
"""What OpenVLA's, AutoEval's, OFT's and SimplerEnv's Octo clients do, with json-numpy patched in and requests."""

import argparse
import json

import json_numpy
import numpy as np
import requests
from images import check_seen, image_at

json_numpy.patch()


def main() -> None:
    """Run an episode in each client's form; those of one seed must be equal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    url = f"http://127.0.0.1:{asked.port}"
    with requests.Session() as session:
        episodes = []
        for act in (openvla, double_encoded, octo_server):
            reset(session, url)
            episodes.append(np.array([act(session, url, step) for step in range(asked.steps)]))
        for episode in episodes[1:]:
            assert np.array_equal(episode, episodes[0])
        assert episodes[0].shape == (asked.steps, 7), episodes[0].shape
        for step, action in enumerate(episodes[0]):
            check_seen(action, step, wrist=False)
        reset(session, url)
        chunk = oft(session, url, 0)
        assert isinstance(chunk, list), chunk
        check_seen(chunk[0], 0)
        refused = session.post(f"{url}/act", json={"instruction": "lift"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "protocol"), refused.text


def reset(session: requests.Session, url: str) -> None:
    """Begin a new episode, as AutoEval's client does but for the seed."""
    answer = session.post(f"{url}/reset", json={"seed": 7})
    assert answer.status_code == 200, answer.text


def openvla(session: requests.Session, url: str, step: int) -> np.ndarray:
    """Return the action for an array in JSON."""
    message = {"image": image_at(step, "primary"), "instruction": "lift the red block"}
    return session.post(f"{url}/act", json=message).json()


def double_encoded(session: requests.Session, url: str, step: int) -> np.ndarray:
    """Return the action for JSON in a string."""
    message = {"image": image_at(step, "primary"), "instruction": "lift the red block"}
    return json_numpy.loads(session.post(f"{url}/act", json={"encoded": json_numpy.dumps(message)}).json())


def octo_server(session: requests.Session, url: str, step: int) -> np.ndarray:
    """Return the action that SimplerEnv's OctoServerInference would get, without its ensemble."""
    message = {
        "observation": {"image_primary": image_at(step, "primary")},
        "text": "lift the red block",
        "modality": "l",
        "ensemble": False,
    }
    return json.loads(session.post(f"{url}/query", json={"use_this": json_numpy.dumps(message)}).json())


def oft(session: requests.Session, url: str, step: int) -> list[np.ndarray]:
    """Return the chunk that OpenVLA-OFT's LIBERO client would get."""
    seen = {
        "full_image": image_at(step, "primary"),
        "wrist_image": image_at(step, "wrist"),
        "state": np.full(8, 0.5),
        "instruction": "lift the red block",
    }
    return session.post(f"{url}/act", json=seen).json()


if __name__ == "__main__":
    main()
