"""Episodes that many tests share."""

import pytest
from recorded_episodes import made_episode

from vla_server_base.datasets import RecordedEpisode


@pytest.fixture
def episodes() -> list[RecordedEpisode]:
    """Return three episodes of different lengths."""
    return [made_episode(seed, length) for seed, length in enumerate((7, 3, 12))]
