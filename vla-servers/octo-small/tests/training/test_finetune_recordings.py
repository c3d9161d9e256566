"""Episodes made ready for a policy: their pictures' sizes, what normalizes them, which are held out."""

from pathlib import Path

import numpy as np
import pytest
from small_dataset import episode, small_store

from octo_service.errors import TrainingError
from octo_service.preprocessing.statistics import action_statistics, normalize, un_normalize
from octo_service.training.recordings import (
    CameraSource,
    Recordings,
    all_episodes,
    dataset_statistics,
    held_out,
    prepared,
)
from vla_server_base.datasets import ArrayStore, ArrayStoreWriter, RecordedEpisode
from vla_server_base.errors import DatasetError

OWN = {"primary": CameraSource(source="primary", height=32, width=32)}


def test_a_store_with_the_policys_cameras_is_taken_as_it_is(tmp_path: Path):
    store = small_store(tmp_path / "store")
    assert prepared(store, OWN, tmp_path / "prepared") is store
    assert not (tmp_path / "prepared").exists()


def test_other_pictures_are_resized_once_and_what_was_begun_is_gone_on_with(tmp_path: Path):
    store = small_store(tmp_path / "store")
    cameras = {"top": CameraSource(source="primary", height=16, width=24)}
    written: list[int] = []

    def interrupted(numbers: range):
        for number in numbers:
            if number == 2 and not written:
                raise KeyboardInterrupt
            yield number

    with pytest.raises(KeyboardInterrupt):
        prepared(store, cameras, tmp_path / "prepared", interrupted)

    def watched(numbers: range):
        written.extend(numbers)
        return numbers

    ready = prepared(store, cameras, tmp_path / "prepared", watched)
    assert written == [2, 3]
    assert len(ready) == len(store)
    for one, other in zip([*ready], [*store], strict=True):
        assert one.images["top"].shape == (len(other), 16, 24, 3)
        assert np.all(one.images["top"][..., 1] == np.arange(len(other))[:, None, None])
        np.testing.assert_array_equal(one.actions, other.actions)
        assert one.instruction == other.instruction


def test_a_camera_that_was_not_recorded_is_refused_by_name(tmp_path: Path):
    cameras = {"wrist": CameraSource(source="hand", height=32, width=32)}
    with pytest.raises(TrainingError, match="no camera hand; it has: primary"):
        prepared(small_store(tmp_path), cameras, tmp_path / "prepared")


def test_statistics_are_those_of_all_timesteps_and_leave_the_gripper_alone():
    episodes = [episode(0, 50), episode(1, 30)]
    found = dataset_statistics(episodes, raw_dims=(-1,))
    actions = np.concatenate([each.actions for each in episodes])
    np.testing.assert_allclose(found["action"]["mean"], actions.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["action"]["std"], actions.std(0), rtol=1e-5)
    np.testing.assert_array_equal(found["action"]["mask"], [True] * 6 + [False])
    assert (found["num_transitions"], found["num_trajectories"]) == (80, 2)
    normalized = normalize(actions, action_statistics(found["action"]))
    np.testing.assert_allclose(normalized[:, :6].std(0), 1, rtol=1e-4)
    np.testing.assert_array_equal(normalized[:, 6], actions[:, 6])
    back = un_normalize(normalized[None], action_statistics(found["action"]))
    np.testing.assert_allclose(back[0], actions, atol=1e-4)


def test_what_never_changes_is_not_divided_by_nothing():
    still = [episode(3, 5, proprio=np.full((5, 2), 0.3, np.float32))]
    found = dataset_statistics(still, raw_dims=())
    assert not found["proprio"]["mask"].any()
    assert not found["action"]["mask"][0]
    np.testing.assert_array_equal(Recordings(still, found, ["", *{still[0].instruction}]).proprio, still[0].proprio)


def test_some_episodes_are_held_out_but_never_all():
    chosen = held_out(40, 0.1, seed=3)
    assert chosen.sum() == 4
    np.testing.assert_array_equal(chosen, held_out(40, 0.1, seed=3))
    assert not np.array_equal(chosen, held_out(40, 0.1, seed=4))
    assert [held_out(count, share, 0).sum() for count, share in ((3, 0.01), (1, 0.5), (3, 0.0), (2, 1.0))] == [
        1,
        0,
        0,
        1,
    ]


def test_datasets_that_are_not_alike_are_refused_by_name(tmp_path: Path):
    slow = small_store(tmp_path / "slow")
    assert len(all_episodes([("slow", slow), ("again", slow)])) == 8
    with ArrayStoreWriter(tmp_path / "fast", fps=10) as writer:
        writer.append(episode(0, 5))
    with pytest.raises(TrainingError, match=r"different rates \(5 fps in slow, 10 fps in fast\)"):
        all_episodes([("slow", slow), ("fast", ArrayStore(tmp_path / "fast"))])
    narrow = small_store(tmp_path / "narrow", action_dim=4)
    with pytest.raises(TrainingError, match=r"different actions \(7 numbers in slow, 4 numbers in narrow\)"):
        all_episodes([("slow", slow), ("narrow", narrow)])


def test_proprio_that_not_all_episodes_have_is_none(tmp_path: Path):
    with ArrayStoreWriter(tmp_path / "without", fps=5) as writer:
        writer.append(episode(0, 5, proprio=None))
    both = all_episodes([("with", small_store(tmp_path / "with")), ("without", ArrayStore(tmp_path / "without"))])
    assert [each.proprio for each in both] == [None] * 5


class Recorded:
    """Episodes in memory."""

    fps = 5.0

    def __init__(self, *episodes: RecordedEpisode):
        self._episodes = episodes

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, index: int) -> RecordedEpisode:
        return self._episodes[index]

    def metadata(self, index: int) -> dict[str, object]:
        return {}

    def name(self, index: int) -> str:
        return f"demo_{index}"


def test_an_episode_unlike_those_before_is_refused_by_name(tmp_path: Path):
    recorded = Recorded(episode(0, 5), episode(1, 5, action_dim=6))
    message = r"episode demo_1: .* actions is float32 of shape \(6,\) per timestep, expected float32 of shape \(7,\)"
    with pytest.raises(DatasetError, match=message):
        prepared(recorded, OWN, tmp_path)
