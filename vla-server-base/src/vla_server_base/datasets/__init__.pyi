from .array_store import ArrayStore
from .array_store_writer import ArrayStoreWriter
from .episode import EpisodeDataset, EpisodeWriter, RecordedEpisode
from .keys import Keys
from .open import DatasetForm, form_of, open_dataset, open_recording, open_writer

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
