"""What the robots of these scripts see, and what EchoAdapter, the policy they are served, makes of it."""

import numpy as np

CAMERAS = ("primary", "wrist")


def picture(step: int, camera: str, size: int = 128) -> np.ndarray:
    """Return an image of noise around a colour, another one at each step and for each camera."""
    random = np.random.default_rng([step, CAMERAS.index(camera)])
    colour = random.integers(60, 196, 3)
    return (colour + random.integers(-60, 60, (size, size, 3))).astype(np.uint8)


def check_seen(action: np.ndarray, step: int, *, wrist: bool = True, size: int = 128) -> None:
    """See that an action was computed from the images of a step: its first numbers are their mean colours."""
    colours = picture(step, "primary", size).mean(axis=(0, 1)) / 255.0
    brightness = picture(step, "wrist", size).mean() / 255.0 if wrist else 0.0
    seen = np.asarray(action)[:4]
    assert np.allclose(seen, [*colours, brightness], atol=1e-5), (seen, colours, brightness)
