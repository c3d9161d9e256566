"""Video: frames are found by their times, whatever part of the file is asked for."""

import numpy as np
import pytest

from vla_server_base.datasets.video import VideoWriter, read_frames
from vla_server_base.errors import DatasetError

FPS, NUM_FRAMES = 5, 30


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Return a video in which the level of grey is 8 times the number of the frame."""
    path = tmp_path_factory.mktemp("video") / "deep" / "grey.mp4"
    writer = VideoWriter(path, FPS, 16, 32)
    levels = (8 * np.arange(NUM_FRAMES)).astype(np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (NUM_FRAMES, 16, 32, 3)).copy()
    writer.write(frames[:10])
    writer.write(frames[10:])
    assert writer.num_frames == NUM_FRAMES
    writer.close()
    return path


def numbers_of(frames: np.ndarray) -> list[int]:
    return np.rint(frames.mean(axis=(1, 2, 3)) / 8).astype(int).tolist()


def test_all_frames_come_back_in_order(path):
    frames = read_frames(path, np.arange(NUM_FRAMES) / FPS, FPS)
    assert frames.shape == (NUM_FRAMES, 16, 32, 3)
    assert numbers_of(frames) == list(range(NUM_FRAMES))


@pytest.mark.parametrize("wanted", [[0], [29], [7, 8, 9], [3, 11, 25], [14, 14]])
def test_any_ascending_frames_are_found(path, wanted):
    assert numbers_of(read_frames(path, np.array(wanted) / FPS, FPS)) == wanted


@pytest.mark.parametrize("shift", [-0.09, -0.02, 0.02, 0.09])
def test_times_may_be_off_by_less_than_half_a_frame(path, shift):
    assert numbers_of(read_frames(path, np.array([4, 5]) / FPS + shift, FPS)) == [4, 5]


@pytest.mark.parametrize("time", [5.95, 7.0])
def test_a_time_without_a_frame_is_refused(path, time):
    with pytest.raises(DatasetError, match=rf"has no frame at {time:.3f} s") as error:
        read_frames(path, np.array([time]), FPS)
    assert "truncated" in error.value.hint


def test_a_missing_and_a_damaged_file_are_refused(path, tmp_path):
    with pytest.raises(DatasetError, match=r"none\.mp4 is missing"):
        read_frames(tmp_path / "none.mp4", np.zeros(1), FPS)
    (tmp_path / "half.mp4").write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match=r"half\.mp4 cannot be read"):
        read_frames(tmp_path / "half.mp4", np.zeros(1), FPS)
