"""The statistics of a LeRobot dataset: those of parts merge to those of all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_server_base.datasets.lerobot_statistics import QUANTILES, Statistics, episode_statistics, merged


def test_numbers_have_statistics_per_dimension():
    values = np.array([[1, 10], [3, 10], [8, 10]], np.float32)
    statistics = episode_statistics({"action": values})["action"]
    assert statistics["min"].tolist() == [1, 10]
    assert statistics["max"].tolist() == [8, 10]
    assert statistics["mean"].tolist() == [4, 10]
    assert statistics["std"] == pytest.approx([np.sqrt(26 / 3), 0])
    assert statistics["q50"].tolist() == [3, 10]
    assert statistics["q10"] == pytest.approx([1.4, 10])
    assert statistics["count"].tolist() == [3]


def test_one_number_per_timestep_has_one_dimension():
    assert episode_statistics({"index": np.arange(4)})["index"]["mean"].tolist() == [1.5]


def test_images_have_statistics_per_channel_from_0_to_1():
    frames = np.random.default_rng(0).integers(20, 200, (3, 7, 5, 3), np.uint8)
    statistics = episode_statistics({"image": frames})["image"]
    scaled = frames.reshape(-1, 3) / 255
    assert statistics["mean"].shape == (3, 1, 1)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(statistics[name].ravel(), getattr(scaled, name)(axis=0))
    for name, share in QUANTILES.items():
        wanted = np.quantile(scaled, share, axis=0, method="inverted_cdf")
        np.testing.assert_allclose(statistics[name].ravel(), wanted)
    assert statistics["count"].tolist() == [3]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_statistics_of_parts_merge_to_those_of_all(lengths, seed):
    values = np.random.default_rng(seed).normal(size=(sum(lengths), 3))
    parts = np.split(values, np.cumsum(lengths)[:-1])
    merged_statistics = merged([episode_statistics({"action": part}) for part in parts])["action"]
    for name, value in episode_statistics({"action": values})["action"].items():
        if name not in QUANTILES:
            np.testing.assert_allclose(merged_statistics[name], value, atol=1e-12)


def test_quantiles_of_parts_are_averaged_by_length_until_all_are_read():
    values = np.array([[0.0], [1.0], [2.0], [8.0]])
    parts: list[Statistics] = [episode_statistics({"action": part}) for part in (values[:3], values[3:])]
    assert merged(parts)["action"]["q50"] == pytest.approx([(3 * 1 + 8) / 4])
    without = {name: value for name, value in parts[0]["action"].items() if name not in QUANTILES}
    assert not QUANTILES.keys() & merged([{"action": without}, parts[1]])["action"].keys()


def test_statistics_of_images_merge_too():
    frames = np.random.default_rng(1).integers(0, 256, (5, 4, 4, 3), np.uint8)
    merged_statistics = merged([episode_statistics({"image": part}) for part in (frames[:2], frames[2:])])["image"]
    for name, value in episode_statistics({"image": frames})["image"].items():
        if name not in QUANTILES:
            np.testing.assert_allclose(merged_statistics[name], value, atol=1e-12)
