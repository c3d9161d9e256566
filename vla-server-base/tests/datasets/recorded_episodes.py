"""Episodes to write, and how two are compared."""

import numpy as np

from vla_server_base.datasets import RecordedEpisode


def made_episode(seed: int, length: int = 7, **changes) -> RecordedEpisode:
    """Return an episode with smooth images, as video keeps them, that differ from frame to frame."""
    random = np.random.default_rng(seed)
    up, across = np.mgrid[:32, :48]
    level = (20 * np.arange(length) + 10 * seed)[:, None, None, None]
    image = np.stack([4 * up, 3 * across, 2 * (up + across)], axis=-1)
    fields = {
        "images": {
            "primary": ((level + image) // 2).astype(np.uint8),
            "wrist": np.broadcast_to(level % 200, (length, 16, 16, 3)).astype(np.uint8),
        },
        "proprio": random.normal(size=(length, 8)).astype(np.float32),
        "environment_state": random.normal(size=(length, 14)).astype(np.float32),
        "actions": random.normal(size=(length, 7)).astype(np.float32),
        "instruction": f"pick up cube {seed % 2}",
        "expert_drove": random.random(length) < 0.5,
        "metadata": {"task": "pick_up", "seed": seed},
    }
    return RecordedEpisode(**{**fields, **changes})


def assert_same(read: RecordedEpisode, wanted: RecordedEpisode, tolerance: float = 0):
    """Compare two episodes; images within a tolerance on average, since video is not exact."""
    np.testing.assert_array_equal(read.actions, wanted.actions)
    for name in ("proprio", "environment_state", "expert_drove"):
        assert (getattr(read, name) is None) == (getattr(wanted, name) is None)
        np.testing.assert_array_equal(getattr(read, name), getattr(wanted, name))
    assert (read.instruction, read.metadata) == (wanted.instruction, wanted.metadata)
    assert (read.proprio_names, read.action_names) == (wanted.proprio_names, wanted.action_names)
    assert read.images.keys() == wanted.images.keys()
    for name, frames in wanted.images.items():
        assert read.images[name].shape == frames.shape
        off = np.abs(read.images[name].astype(int) - frames).mean(axis=(1, 2, 3))
        assert off.max() <= tolerance, f"{name}: frames are off by {off}"
