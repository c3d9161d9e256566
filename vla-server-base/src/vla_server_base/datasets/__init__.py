"""Recorded episodes on disk: LeRobot datasets (extra `datasets`), HDF5, RLDS, and the training cache."""

from vla_server_base.datasets.array_store import ArrayStore
from vla_server_base.datasets.array_store_writer import ArrayStoreWriter
from vla_server_base.datasets.episode import EpisodeDataset, EpisodeWriter, RecordedEpisode
from vla_server_base.datasets.keys import Keys
from vla_server_base.datasets.open import DatasetForm, form_of, open_dataset, open_recording, open_writer

__all__ = [
    "ArrayStore",
    "ArrayStoreWriter",
    "DatasetForm",
    "EpisodeDataset",
    "EpisodeWriter",
    "Keys",
    "RecordedEpisode",
    "form_of",
    "open_dataset",
    "open_recording",
    "open_writer",
]
