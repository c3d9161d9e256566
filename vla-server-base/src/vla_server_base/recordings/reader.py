"""Reads recordings: the steps of all sessions in the order in which they were answered, also of a torn file."""

import io
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from vla_server_base.config import ConfigError
from vla_server_base.errors import DatasetError
from vla_server_base.extras import how_to_install
from vla_server_base.recordings.messages import StepMessage

try:
    import zstandard
    from mcap.exceptions import McapError
    from mcap.records import Channel, Message
    from mcap.stream_reader import StreamReader
except ImportError as error:
    raise ConfigError("recordings cannot be read without mcap", hint=how_to_install("record")) from error

_TORN = (McapError, struct.error, zstandard.ZstdError, ValueError, EOFError)
"""What the end of a file whose writer was killed may raise."""


@dataclass(frozen=True, kw_only=True)
class RecordedTurn:
    """A step as it was recorded. `images` and `goal_images` are PNG as base64, by camera.

    `state` is where the session was before it, where the file says so; `server` is GET /info of what answered.
    """

    session_id: str
    message: StepMessage
    images: Mapping[str, str]
    goal_images: Mapping[str, str]
    state: Mapping[str, Any] | None
    server: Mapping[str, Any]


@dataclass
class _FileState:
    """What was read of a file so far, by session."""

    server: Mapping[str, Any] = field(default_factory=dict)
    images: dict[str, dict[str, str]] = field(default_factory=dict)
    new_goals: dict[str, dict[str, str]] = field(default_factory=dict)
    goals: dict[str, dict[str, str]] = field(default_factory=dict)
    states: dict[str, Mapping[str, Any]] = field(default_factory=dict)


def recording_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files of a recording in their order; a folder stands for those in it.

    Raises:
        DatasetError: there is none.
    """
    files = [each for path in paths for each in (path.glob("*.mcap") if path.is_dir() else [path])]
    if not files:
        raise DatasetError(
            f"there is no recording (*.mcap) in {', '.join(map(str, paths))}", hint="name the folder of VLA_RECORD"
        )
    return sorted(files, key=lambda path: path.name)


def read_turns(files: Iterable[Path]) -> Iterator[RecordedTurn]:
    """Yield the steps of files, up to where a torn one ends.

    Raises:
        DatasetError: a file is not a recording.
    """
    for path in files:
        state = _FileState()
        for channel, message in _messages(path):
            turn = _take(state, channel, msgspec.json.decode(message.data), message.data)
            if turn is not None:
                yield turn


def _messages(path: Path) -> Iterator[tuple[Channel, Message]]:
    channels: dict[int, Channel] = {}
    with path.open("rb") as file:
        if file.read(8) != b"\x89MCAP0\r\n":
            raise DatasetError(f"{path} is not an MCAP file", hint="name a file that VLA_RECORD has written")
        # No further than now: a server that records may be the one to which the steps are sent again.
        written = io.BytesIO(file.read())
        records = StreamReader(written, skip_magic=True, validate_crcs=True).records
        while True:
            try:
                record = next(records)
            except (StopIteration, *_TORN):
                return
            if isinstance(record, Channel):
                channels[record.id] = record
            elif isinstance(record, Message):
                yield channels[record.channel_id], record


def _take(state: _FileState, channel: Channel, content: Mapping[str, Any], data: bytes) -> RecordedTurn | None:
    """Note a message; return the step that is complete with it."""
    session_id, kind = channel.metadata.get("session", ""), channel.metadata.get("kind")
    if channel.topic == "/server":
        state.server = content
    elif kind == "state":
        state.states[session_id] = content
    elif kind in ("images", "goal"):
        images = state.images if kind == "images" else state.new_goals
        images.setdefault(session_id, {})[channel.metadata["camera"]] = content["data"]
    elif kind == "step":
        if session_id in state.new_goals:
            state.goals[session_id] = state.new_goals.pop(session_id)
        message = msgspec.json.decode(data, type=StepMessage)
        return RecordedTurn(
            session_id=session_id,
            message=message,
            images=state.images.pop(session_id, {}),
            goal_images=state.goals.get(session_id, {}) if message.goal_cameras else {},
            state=state.states.pop(session_id, None),
            server=state.server,
        )
    return None
