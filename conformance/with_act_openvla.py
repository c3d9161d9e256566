# /// script
# requires-python = ">=3.10"
# dependencies = ["json-numpy", "requests", "numpy>=1.26", "pillow"]
# ///
"""What OpenVLA's and OFT's clients do on /act, with json-numpy patched in and requests, runs episodes of ACT."""

import json_numpy
import requests
from act_robot import CAMERAS, arguments, check_equal, predicted, seen_at, to_execute

json_numpy.patch()


def main() -> None:
    """Run an episode in each client's form, and leave out a camera and the state."""
    asked = arguments(__doc__).parse_args()
    expected = to_execute(asked.url, asked.steps)
    with requests.Session() as session:
        for encoded in (False, True):
            session.post(f"{asked.url}/reset", json={}).raise_for_status()
            executed = [act(session, asked.url, message(step), encoded) for step in range(asked.steps)]
            check_equal(executed, expected)
        for step in range(4):
            check_equal(act(session, asked.url, oft(step)), predicted(asked.url, seen_at(step)))
        for missing in (*CAMERAS, "state"):
            lacking = {key: value for key, value in message(0).items() if not key.endswith(missing)}
            refused = session.post(f"{asked.url}/act", json=lacking)
            assert refused.status_code == 422, refused.text
            assert missing in refused.json()["error"]["message"], refused.text
    print(f"/act: 2 x {asked.steps} actions of ACT equal those of POST /predict, bit for bit")


def act(session: requests.Session, url: str, content: dict, encoded: bool = False) -> object:
    """Return the reply to a message, or to that message as a string."""
    reply = session.post(f"{url}/act", json={"encoded": json_numpy.dumps(content)} if encoded else content)
    assert reply.status_code == 200, reply.text
    return json_numpy.loads(reply.json()) if encoded else reply.json()


def message(step: int) -> dict:
    """Return an observation by the policy's names."""
    seen = seen_at(step)
    images = {f"observation.images.{name}": image for name, image in seen.images.items()}
    return {**images, "observation.state": seen.state, "instruction": "pick up the red cube"}


def oft(step: int) -> dict:
    """Return an observation by OpenVLA-OFT's names, which gets a chunk."""
    seen = seen_at(step)
    images = dict(zip(("full_image", "wrist_image"), seen.images.values(), strict=True))
    return {**images, "state": seen.state, "instruction": "pick up the red cube", "session_id": "oft"}


if __name__ == "__main__":
    main()
