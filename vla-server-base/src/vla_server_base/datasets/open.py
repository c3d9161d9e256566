"""Opens recorded episodes of any format, to read or to add to them."""

from pathlib import Path
from typing import Literal

from vla_server_base.datasets.array_store import HEADER, ArrayStore
from vla_server_base.datasets.episode import EpisodeDataset, EpisodeWriter
from vla_server_base.datasets.keys import Keys
from vla_server_base.errors import DatasetError
from vla_server_base.extras import how_to_install

DatasetForm = Literal["arrays", "lerobot"]

LEROBOT_INFO = Path("meta") / "info.json"


def open_dataset(folder: Path | str, keys: Keys = Keys()) -> EpisodeDataset:  # noqa: B008 (frozen)
    """Open a LeRobot dataset, whose features `keys` can name, or a training cache.

    Raises:
        DatasetError: the folder has neither, it is damaged, or packages are missing.
    """
    folder = Path(folder)
    form = form_of(folder)
    if form is None:
        raise DatasetError(
            f"{folder} holds no recorded episodes: neither {LEROBOT_INFO} (LeRobot) nor {HEADER} (training cache)",
            hint="name the folder of a LeRobot dataset; `octo-service demonstrate` records one, and "
            "`octo-service convert-data` makes one of RLDS and HDF5",
        )
    if form == "arrays":
        if keys != Keys():
            raise DatasetError(
                f"{folder} is a training cache, which takes no keys", hint="leave --action-key and --state-key out"
            )
        return ArrayStore(folder)
    try:
        from vla_server_base.datasets.lerobot import LeRobotDataset
    except ImportError as error:
        raise DatasetError(
            f"reading a LeRobot dataset needs {error.name}, which is not installed", hint=how_to_install("datasets")
        ) from error
    return LeRobotDataset(folder, keys)


def open_recording(
    source: Path | str,
    keys: Keys = Keys(),  # noqa: B008 (frozen)
    fps: float | None = None,
    split: str = "train",
) -> EpisodeDataset:
    """Open a recording to convert it: HDF5 or RLDS, or what `open_dataset` opens.

    `fps` is the rate of a recording that does not state its own; `split` is a split of RLDS.

    Raises:
        DatasetError: the source has no recording, it is damaged, or packages are missing.
    """
    source = Path(source)
    if form_of(source) is not None:
        return open_dataset(source, keys)
    try:
        from vla_server_base.datasets.hdf5 import Hdf5Dataset
        from vla_server_base.datasets.hdf5_layout import recording_files
        from vla_server_base.datasets.rlds import RldsDataset
        from vla_server_base.datasets.rlds_files import is_rlds
    except ImportError as error:
        raise DatasetError(
            f"reading HDF5 and RLDS needs {error.name}, which is not installed", hint=how_to_install("convert")
        ) from error
    if is_rlds(source):
        return RldsDataset(source, keys, fps, split)
    if recording_files(source):
        return Hdf5Dataset(source, keys, fps)
    raise DatasetError(
        f"{source} holds no recorded episodes: it has neither an HDF5 file nor features.json (RLDS)",
        hint="name an HDF5 file, a folder of them, or the version folder of an RLDS dataset",
    )


def open_writer(folder: Path | str, fps: float, robot: str | None = None, *, lossless: bool = False) -> EpisodeWriter:
    """Open a writer that adds episodes to a LeRobot dataset, and creates it first if `folder` has none.

    Images are stored as video, or as exact PNG with `lossless`.

    Raises:
        DatasetError: the folder holds another kind of dataset or another rate, it is damaged, or packages are missing.
    """
    folder = Path(folder)
    if form_of(folder) == "arrays":
        raise DatasetError(
            f"{folder} is a training cache; expected a LeRobot dataset or a new folder",
            hint="write to another folder",
        )
    try:
        from vla_server_base.datasets.lerobot_writer import LeRobotWriter
    except ImportError as error:
        raise DatasetError(
            f"recording episodes needs {error.name}, which is not installed", hint=how_to_install("datasets")
        ) from error
    return LeRobotWriter(folder, fps, robot=robot, cameras="image" if lossless else "video")


def form_of(folder: Path) -> DatasetForm | None:
    """Return the format of the episodes in a folder, or None if it has none."""
    if (folder / HEADER).exists():
        return "arrays"
    return "lerobot" if (folder / LEROBOT_INFO).exists() else None
