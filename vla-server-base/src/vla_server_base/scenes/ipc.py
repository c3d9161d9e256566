"""Bytes between the server and a scene worker.

To the worker: a length and a pickle. From the worker, which may have been taken over by a scene: a length and
msgpack, checked against the types of messages.py, so that nothing it says is executed.
"""

import pickle
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import msgspec
import numpy as np
from jaxtyping import jaxtyped

from vla_server_base import errors
from vla_server_base.scenes.messages import Answer, Confinement, Job, RenderReply, RolloutReply, WorkerSettings

LENGTH = struct.Struct("<Q")
MAX_ANSWER_BYTES = 1 << 26
"""Two pictures of the largest size take 25 MB."""
DTYPES = frozenset({"|u1", "<f8"})

# The errors a worker may answer with; any other name counts as a crash.
ERRORS = {
    kind.__name__: kind
    for kind in (
        errors.RequestError,
        errors.UnknownName,
        errors.SceneError,
        errors.SceneRefused,
        errors.SceneState,
        errors.SceneUnstable,
        errors.MissingAsset,
        errors.SceneTimeout,
        errors.SceneCrashed,
        errors.SceneTooLarge,
        errors.RendererUnavailable,
    )
}


class FrameReader(Protocol):
    """An asyncio.StreamReader, as far as an answer needs one."""

    async def readexactly(self, n: int) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class _Error:
    name: str
    message: str
    hint: str | None
    code: str


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """An Answer as it travels: one of the three is there."""

    held: frozenset[str]
    spent: bool
    confinement: Confinement | None = None
    error: _Error | None = None
    render: RenderReply | None = None
    rollout: RolloutReply | None = None


def to_worker(message: WorkerSettings | Job) -> bytes:
    """Return the frame that carries a message to a worker."""
    body = pickle.dumps(message, protocol=5)
    return LENGTH.pack(len(body)) + body


def read_at_worker(stream: BinaryIO) -> Any:
    """Return the server's next message, or None at the end of the stream."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    return pickle.loads(stream.read(*LENGTH.unpack(head)))


class AnswerWriter:
    """Sends a worker's answers.

    All through one buffer: to have new memory for every picture takes longer than to copy it.
    """

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
        self._buffer = bytearray()

    def send(self, answer: Answer) -> None:
        """Send the frame that carries an answer to the server."""
        outcome = answer.outcome
        error = None
        if isinstance(outcome, errors.VLAError):
            error = _Error(name=type(outcome).__name__, message=outcome.message, hint=outcome.hint, code=outcome.code)
        travelling = _Answer(
            held=answer.held,
            spent=answer.spent,
            confinement=answer.confinement,
            error=error,
            render=outcome if isinstance(outcome, RenderReply) else None,
            rollout=outcome if isinstance(outcome, RolloutReply) else None,
        )
        self._encoder.encode_into(travelling, self._buffer, LENGTH.size)
        LENGTH.pack_into(self._buffer, 0, len(self._buffer) - LENGTH.size)
        self._stream.write(self._buffer)
        self._stream.flush()


async def read_answer(stream: FrameReader) -> Answer:
    """Read a worker's next answer.

    Raises:
        EOFError: the worker ended.
        ValueError: it said something that is no answer.
    """
    (length,) = LENGTH.unpack(await stream.readexactly(LENGTH.size))
    if length > MAX_ANSWER_BYTES:
        raise ValueError("an answer of that size is none")
    content = await stream.readexactly(length)
    # Whoever runs this event loop may be checked by jaxtyping too: its axes are not this answer's.
    with jaxtyped("context"):
        travelled = msgspec.msgpack.decode(content, type=_Answer, dec_hook=_array)
    outcome = _vla_error(travelled.error) if travelled.error else travelled.render or travelled.rollout
    if outcome is None:
        raise ValueError("an answer lacks its outcome")
    return Answer(outcome=outcome, held=travelled.held, spent=travelled.spent, confinement=travelled.confinement)


def _plain(value: Any) -> Any:
    assert isinstance(value, np.ndarray), type(value)
    return value.dtype.str, value.shape, np.ascontiguousarray(value).data


def _array(_: type, value: Any) -> np.ndarray:
    """Form an array; msgspec then checks it against the annotation that it is for."""
    match value:
        case [str() as dtype, [*shape], bytes() as content] if dtype in DTYPES:
            return np.frombuffer(content, dtype).reshape(shape)
    raise ValueError("an array lacks its form")


def _vla_error(travelled: _Error) -> errors.VLAError:
    kind = ERRORS.get(travelled.name, errors.SceneCrashed)
    error = kind.__new__(kind)
    # UnknownName forms its message from names that have not travelled.
    errors.VLAError.__init__(error, travelled.message, hint=travelled.hint)
    error.code = travelled.code
    return error
