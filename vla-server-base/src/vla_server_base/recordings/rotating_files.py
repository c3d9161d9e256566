"""RotatingFiles: MCAP files of a bounded size in a folder, the oldest deleted when all are too large."""

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from vla_server_base.config import ConfigError
from vla_server_base.extras import how_to_install
from vla_server_base.recordings.messages import SCHEMAS, VERSION

if TYPE_CHECKING:
    from mcap.writer import Writer

PREFIX, SUFFIX = "vla-", ".mcap"


def writer_class() -> "type[Writer]":
    """Return what writes MCAP, which is an extra.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from mcap.writer import Writer
    except ImportError as error:
        raise ConfigError("VLA_RECORD: recording needs mcap", hint=how_to_install("record")) from error
    return Writer


class RotatingFiles:
    """Writes messages to one file after the other; used by one thread.

    A step's messages are one chunk, which is handed to the system at once: a process that is killed
    loses no step that was written. A file that a server still writes is locked, so that no other server deletes it.
    All methods may raise an OSError.
    """

    def __init__(self, folder: Path, max_mb: int, file_mb: int):
        self._folder, self._max_bytes, self._file_bytes = folder, max_mb * 2**20, file_mb * 2**20
        self._run = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
        self.num_files = 0
        """How many were begun."""
        self.num_bytes = 0
        """Size of all files in the folder, of which others' are measured when a file is begun."""
        self._bytes_of_others = 0
        self._file: IO[bytes] | None = None
        self._path = folder
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}

    def measure(self) -> None:
        """Take the size of what is in the folder, where no file has been begun yet."""
        self.num_bytes = sum(self._sizes().values())

    @property
    def is_new(self) -> bool:
        """Whether the next message begins a file."""
        return self._file is None

    def write(
        self, topic: str, schema: str, data: bytes, time_s: float, sequence: int = 0, metadata: Mapping[str, str] = {}
    ) -> None:
        """Add a message; `flush` hands it to the system."""
        if self._file is None:
            self._begin_file()
        if topic not in self._channels:
            self._channels[topic] = self._writer.register_channel(topic, "json", self._schema(schema), dict(metadata))
        at = int(time_s * 1e9)
        self._writer.add_message(self._channels[topic], at, data, at, sequence % 2**32)

    def flush(self) -> None:
        """Hand all messages to the system; end a file that is large enough.

        Raises:
            FileNotFoundError: the file was deleted, or its folder.
        """
        if self._file is None:
            return
        self._writer.flush()
        os.stat(self._path)
        size = self._file.tell()
        self.num_bytes = self._bytes_of_others + size
        if size >= self._file_bytes:
            self.close()

    def close(self) -> None:
        """End the file, with an index."""
        file, self._file = self._file, None
        if file is not None:
            with file:
                self._writer.finish()
                self.num_bytes = self._bytes_of_others + file.tell()

    def abandon(self) -> None:
        """Close the file as it is, after an error."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # of what is buffered still
                file.close()

    def _begin_file(self) -> None:
        self._make_room()
        self.num_files += 1
        self._path = self._folder / f"{PREFIX}{self._run}-{self.num_files:05}{SUFFIX}"
        # Images of a lab's rooms: for the owner alone.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._channels, self._schemas = {}, {}
        self._writer = writer_class()(self._file, chunk_size=2**30)
        self._writer.start(profile="", library="vla-servers")
        self._writer.add_metadata("vla_recording", {"version": VERSION})

    def _schema(self, name: str) -> int:
        if name not in self._schemas:
            self._schemas[name] = self._writer.register_schema(name, "jsonschema", SCHEMAS[name])
        return self._schemas[name]

    def _make_room(self) -> None:
        """Delete the oldest recordings until another file fits."""
        kept = self._sizes()
        for path in list(kept):
            if sum(kept.values()) + self._file_bytes <= self._max_bytes:
                break
            if not _is_being_written(path):
                path.unlink(missing_ok=True)
                del kept[path]
        self._bytes_of_others = sum(kept.values())

    def _sizes(self) -> dict[Path, int]:
        """Return the size of each recording in the folder, the oldest first."""
        found: list[tuple[Path, os.stat_result]] = []
        for path in self._folder.glob(f"{PREFIX}*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):  # another server makes room, too
                found.append((path, path.stat()))
        return {path: each.st_size for path, each in sorted(found, key=lambda it: (it[1].st_mtime, it[0].name))}


def _is_being_written(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
