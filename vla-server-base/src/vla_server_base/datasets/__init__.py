"""Recorded episodes on disk, as raw arrays or in LeRobot's form (`lerobot`, `lerobot_writer`; extra `datasets`)."""

from vla_server_base.datasets.array_store import ArrayStore, ArrayStoreWriter
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
