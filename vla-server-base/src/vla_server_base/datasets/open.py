"""Opens recorded episodes, to read or to add to them, whatever form they have."""

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
    """Open an array store or a LeRobot dataset, whose features `keys` may name.

    Raises:
        DatasetError: the folder holds neither, it is damaged, or LeRobot's form needs packages that are not there.
    """
    folder = Path(folder)
    form = form_of(folder)
    if form is None:
        raise DatasetError(
            f"{folder} holds no recorded episodes: neither {HEADER} of an array store nor {LEROBOT_INFO} of LeRobot",
            hint="name the folder that one of these lies in, or that `octo-service demonstrate --out` wrote to; "
            "`octo-service convert-data` makes one of RLDS and HDF5",
        )
    if form == "arrays":
        if keys != Keys():
            raise DatasetError(f"{folder} is an array store, of which no keys are to be named", hint="leave them out")
        return ArrayStore(folder)
    try:
        from vla_server_base.datasets.lerobot import LeRobotDataset
    except ImportError as error:
        raise DatasetError(f"reading LeRobot's form takes {error.name}", hint=how_to_install("datasets")) from error
    return LeRobotDataset(folder, keys)


def open_recording(
    source: Path | str,
    keys: Keys = Keys(),  # noqa: B008 (frozen)
    fps: float | None = None,
    split: str = "train",
) -> EpisodeDataset:
    """Open what others recorded, to convert it: HDF5 and RLDS, beside the forms that `open_dataset` opens.

    `fps` is the rate of what does not say it itself, `split` RLDS's.

    Raises:
        DatasetError: there is nothing of the kind, it is damaged, or its form needs packages that are not there.
    """
    source = Path(source)
    if form_of(source) is not None:
        return open_dataset(source, keys)
    try:
        from vla_server_base.datasets.hdf5 import Hdf5Dataset, files_of
        from vla_server_base.datasets.rlds import RldsDataset, is_rlds
    except ImportError as error:
        raise DatasetError(f"reading HDF5 and RLDS takes {error.name}", hint=how_to_install("convert")) from error
    if is_rlds(source):
        return RldsDataset(source, keys, fps, split)
    if files_of(source):
        return Hdf5Dataset(source, keys, fps)
    raise DatasetError(
        f"{source} holds no recorded episodes: no HDF5 file, and no features.json of RLDS",
        hint="name an HDF5 file, a folder of them, or the folder of an RLDS dataset's version",
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
            f"{folder} is an array store, which only training writes to; expected a LeRobot dataset or a new folder",
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
    """Say of what form the episodes in a folder are; None where there are none."""
    if (folder / HEADER).exists():
        return "arrays"
    return "lerobot" if (folder / LEROBOT_INFO).exists() else None
