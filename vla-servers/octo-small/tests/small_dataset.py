"""Recorded episodes of a few timesteps with small pictures, in which every number says where it comes from."""

from pathlib import Path

import numpy as np

from vla_server_base.datasets import ArrayStore, ArrayStoreWriter, RecordedEpisode

INSTRUCTIONS = ("open the drawer", "move the pot", "")


def episode(number: int, length: int, *, size: int = 32, action_dim: int = 7, **changes: object) -> RecordedEpisode:
    """Make an episode: red is its number, green the timestep, and so are the first two numbers of an action."""
    now = np.arange(length)
    frames = np.zeros((length, size, size, 3), np.uint8)
    frames[..., 0], frames[..., 1] = number, now[:, None, None]
    actions = np.random.default_rng(number).normal(size=(length, action_dim)).astype(np.float32)
    actions[:, 0], actions[:, 1] = number, now
    fields = {
        "images": {"primary": frames},
        "proprio": np.stack([now, -now, now * number], axis=1).astype(np.float32),
        "actions": actions,
        "instruction": INSTRUCTIONS[number % 3],
    }
    return RecordedEpisode(**{**fields, **changes})  # pyright: ignore[reportArgumentType]


def small_store(folder: Path, lengths: tuple[int, ...] = (5, 7, 6, 8), **options: int) -> ArrayStore:
    """Write an array store of episodes of these lengths."""
    with ArrayStoreWriter(folder, fps=5) as writer:
        for number, length in enumerate(lengths):
            writer.append(episode(number, length, **options))
    return ArrayStore(folder)
