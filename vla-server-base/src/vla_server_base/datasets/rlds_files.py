"""The files of an RLDS dataset: its folder, the shards of a split, and their records."""

import json
import re
from pathlib import Path

from vla_server_base.datasets.rlds_features import FEATURES
from vla_server_base.datasets.tfrecord import RecordLocation, find_records
from vla_server_base.errors import DatasetError

INFO = "dataset_info.json"
COPY_AGAIN = "copy the dataset again"


def is_rlds(folder: Path) -> bool:
    """Say whether a folder, or a folder in it, is what TensorFlow Datasets writes."""
    return (folder / FEATURES).is_file() or bool(_feature_files_below(folder))


def dataset_folder(folder: Path) -> Path:
    """Return the folder that has `features.json`: this one, or the only one below it.

    Raises:
        DatasetError: there is none, or there are several.
    """
    if (folder / FEATURES).is_file():
        return folder
    folders = sorted(path.parent for path in _feature_files_below(folder))
    if len(folders) == 1:
        return folders[0]
    if not folders:
        raise DatasetError(f"{folder} is not an RLDS dataset: it has no {FEATURES}", hint="name the folder that has it")
    listed = ", ".join(str(path.relative_to(folder)) for path in folders)
    raise DatasetError(f"{folder} holds several datasets", hint=f"name one of them: {listed}")


def split_records(folder: Path, split: str) -> list[RecordLocation]:
    """Return where the records of a split are, one per episode.

    Raises:
        DatasetError: the dataset lacks the split or some of its files, or a file is damaged.
    """
    lengths = _shard_lengths(folder / INFO, split)
    shards = _shards(folder, split)
    records_by_shard = [find_records(shard) for shard in shards]
    for shard, records, length in zip(shards, records_by_shard, lengths or map(len, records_by_shard), strict=True):
        if len(records) != length:
            raise DatasetError(f"{shard} has {len(records)} episodes, but {INFO} lists {length}", hint=COPY_AGAIN)
    return [record for records in records_by_shard for record in records]


def _feature_files_below(folder: Path) -> list[Path]:
    return [*folder.glob(f"*/{FEATURES}"), *folder.glob(f"*/*/{FEATURES}")]


def _shards(folder: Path, split: str) -> list[Path]:
    shards = sorted(folder.glob(f"*-{split}.tfrecord-*-of-*"))
    if not shards:
        matches = (re.match(r".*-(\w+)\.\w+-\d+-of-\d+$", path.name) for path in folder.glob("*"))
        splits = {match[1] for match in matches if match}
        raise DatasetError(
            f"{folder} has no TFRecord files of the split '{split}'",
            hint=f"choose one with --split: {', '.join(sorted(splits)) or 'there are none'}",
        )
    num_expected = int(shards[0].name.rpartition("-of-")[2])
    if len(shards) != num_expected:
        raise DatasetError(f"{folder} has {len(shards)} of the {num_expected} files of '{split}'", hint=COPY_AGAIN)
    return shards


def _shard_lengths(path: Path, split: str) -> list[int] | None:
    """Return the number of episodes in each file of a split, or None if no file lists it."""
    if not path.exists():
        return None
    try:
        info = json.loads(path.read_text())
        lengths = {
            entry["name"]: [int(length) for length in entry.get("shardLengths") or ()]
            for entry in info.get("splits", ())
        }
        file_format = info.get("fileFormat") or "tfrecord"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} is damaged ({error!r})", hint=COPY_AGAIN) from error
    if file_format != "tfrecord":
        raise DatasetError(
            f"{path.parent} is stored as {file_format}; expected tfrecord", hint="write the dataset as tfrecord"
        )
    return lengths.get(split) or None
