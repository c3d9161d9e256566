"""What a robot of the small ACT sees, by the policy's own names, and the chunk that POST /predict answers for it.

ACT draws no noise and sees one observation: whatever protocol a client speaks, its actions must be these, bit for bit.
"""

import argparse
import base64
import io
import json
import urllib.request
from dataclasses import dataclass

import numpy as np
from PIL import Image

CAMERAS = ("top", "left_wrist")
HORIZON = 16
NUM_EXECUTED = 8
"""How many actions of each chunk LeRobot executes of this checkpoint."""
MOTORS = tuple(f"joint_{number}.pos" for number in range(7))
STATE = (*MOTORS, "lift.pos")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """An observation: uint8 images (height, width, 3) by camera, and the state in the policy's order, float32 (8,)."""

    images: dict[str, np.ndarray]
    state: np.ndarray


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of what every script is told: where the server answers, and how long an episode is."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--steps", type=int, default=200)
    return parser


def seen_at(step: int) -> Seen:
    """Return what the robot sees at a step, larger than what the policy takes."""
    random = np.random.default_rng(step)
    images = {camera: random.integers(0, 256, (120, 160, 3), np.uint8) for camera in CAMERAS}
    return Seen(images=images, state=random.uniform(-1, 1, len(STATE)).astype(np.float32))


def predicted(url: str, seen: Seen) -> np.ndarray:
    """Return the chunk that the server answers without a session, float32 (16, 7)."""
    body = {"images": {name: _png(image) for name, image in seen.images.items()}, "proprio": seen.state.tolist()}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/predict", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        chunk = np.array(json.load(reply)["actions"], np.float32)
    assert chunk.shape == (HORIZON, len(MOTORS)), chunk.shape
    return chunk


def to_execute(url: str, num_steps: int) -> np.ndarray:
    """Return the actions of an episode in which part of each chunk is executed, float32 (num_steps, 7)."""
    starts = range(0, num_steps, NUM_EXECUTED)
    chunks = [predicted(url, seen_at(start))[:NUM_EXECUTED] for start in starts]
    assert np.ptp(np.array(chunks), axis=0).min() > 0, "what the policy sees does not change its actions"
    return np.concatenate(chunks)[:num_steps]


def check_equal(actions: object, expected: np.ndarray) -> None:
    """See that what a client got is what was predicted, bit for bit."""
    got = np.array(actions, np.float32)
    assert np.array_equal(got, expected), f"got {got}, expected {expected}"


def _png(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
