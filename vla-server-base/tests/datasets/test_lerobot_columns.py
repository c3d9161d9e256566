"""LeRobot features: which are cameras, which depth, and parquet columns as arrays."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vla_server_base.datasets.lerobot_columns import is_camera, is_depth, vectors
from vla_server_base.datasets.lerobot_files import FILES_IN_CHUNK, FileNumber
from vla_server_base.errors import DatasetError

FILE = Path("data.parquet")
COLOUR = {"dtype": "video", "shape": [8, 8, 3], "names": ["height", "width", "channels"]}


@pytest.mark.parametrize(("dtype", "expected"), [("video", True), ("image", True), ("float32", False), (None, False)])
def test_cameras_have_images_or_video(dtype, expected):
    assert is_camera({"dtype": dtype}) is expected


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("front", {"info": {"is_depth_map": True}}),
        ("front", {"info": {"video.is_depth_map": True}}),
        ("front", {"video_info": {"video.pix_fmt": "gray16le"}}),
        ("front", {"names": ["height", "width", "depth"]}),
        ("front", {"names": {"axes": "Depth"}}),
        ("front_depth", {"shape": [8, 8, 1]}),
        ("front_depth", {"shape": [1, 8, 8]}),
    ],
)
def test_depth_is_recognized_by_any_of_its_marks(key, changes):
    assert is_depth(key, {**COLOUR, **changes})


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("front", {}),
        ("front", {"shape": [8, 8, 1]}),
        ("depth_camera", {}),
        ("front", {"info": {"is_depth_map": False, "video.pix_fmt": "yuv420p"}}),
        ("front", {"info": None, "names": None, "shape": None}),
    ],
)
def test_colour_is_not_taken_for_depth(key, changes):
    assert not is_depth(key, {**COLOUR, **changes})


def test_columns_are_concatenated_in_the_order_of_the_keys():
    rows = pa.table({"gripper": [0.5, 1.0], "joints": [[1.0, 2.0], [3.0, 4.0]]})
    np.testing.assert_array_equal(vectors(rows, ("joints", "gripper"), FILE), [[1, 2, 0.5], [3, 4, 1]])
    assert vectors(rows, ("gripper",), FILE).dtype == np.float32


def test_a_row_of_another_length_is_named():
    rows = pa.table({"action": [[1.0, 2.0], [3.0], [5.0, 6.0]]})
    with pytest.raises(DatasetError, match=r"data\.parquet: action in row 1 .*got \[3\.0\]") as error:
        vectors(rows, ("action",), FILE)
    assert error.value.hint


@pytest.mark.parametrize(
    ("number", "chunk", "file"), [(0, 0, 0), (999, 0, 999), (FILES_IN_CHUNK, 1, 0), (2501, 2, 501)]
)
def test_files_are_numbered_within_chunks(number, chunk, file):
    folder = Path("set")
    assert FileNumber(number).indices == {"chunk_index": chunk, "file_index": file}
    assert FileNumber(number).data(folder) == folder / f"data/chunk-{chunk:03d}/file-{file:03d}.parquet"
    assert FileNumber(number).video(folder, "top") == folder / f"videos/top/chunk-{chunk:03d}/file-{file:03d}.mp4"
    assert FileNumber(number).episodes(folder) == folder / f"meta/episodes/chunk-{chunk:03d}/file-{file:03d}.parquet"
