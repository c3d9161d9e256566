"""Inter-process communication (IPC) between the server and a scene worker.

To the worker: a length and a pickle. From the worker, which a scene may have taken over: a length and msgpack, which
is checked against the types of `messages`, so that nothing in it is executed.
"""

import pickle
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import msgspec
import numpy as np
from jaxtyping import jaxtyped

from vla_server_base import errors
from vla_server_base.scenes.messages import (
    Confinement,
    GltfReply,
    RenderReply,
    RolloutReply,
    SceneJob,
    WorkerReply,
    WorkerSettings,
)

LENGTH = struct.Struct("<Q")
MAX_REPLY_BYTES = 1 << 26
"""Two images of the largest size take 25 MB, a glTF file up to 60 MB."""
DTYPES = frozenset({"|u1", "<f8"})

# The errors that a worker may reply with; any other name counts as a crash.
ERRORS = {
    kind.__name__: kind
    for kind in (
        errors.RequestError,
        errors.UnknownName,
        errors.SceneError,
        errors.SceneRefused,
        errors.SceneStateError,
        errors.SceneUnstable,
        errors.MissingAsset,
        errors.SceneTimeout,
        errors.SceneCrashed,
        errors.SceneTooLarge,
        errors.RendererUnavailable,
    )
}


class ByteReader(Protocol):
    """The part of asyncio.StreamReader that a reply needs."""

    async def readexactly(self, n: int) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class _EncodedError:
    name: str
    message: str
    hint: str
    code: str


@dataclass(frozen=True, kw_only=True)
class _EncodedReply:
    """A WorkerReply in msgpack: it has one of error, render, rollout and gltf."""

    cached: frozenset[str]
    must_restart: bool
    confinement: Confinement | None = None
    error: _EncodedError | None = None
    render: RenderReply | None = None
    rollout: RolloutReply | None = None
    gltf: GltfReply | None = None


def encode_message(message: WorkerSettings | SceneJob) -> bytes:
    """Return the bytes that send a message to a worker."""
    body = pickle.dumps(message, protocol=5)
    return LENGTH.pack(len(body)) + body


def read_message(stream: BinaryIO) -> Any:
    """Read the server's next message in a worker; return None at the end of the stream."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    return pickle.loads(stream.read(*LENGTH.unpack(head)))


class ReplyWriter:
    """Sends a worker's replies, all through one buffer: new memory for each image takes longer than to copy it."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
        self._buffer = bytearray()

    def send(self, reply: WorkerReply) -> None:
        """Send a reply to the server."""
        outcome = reply.outcome
        error = None
        if isinstance(outcome, errors.VLAError):
            error = _EncodedError(
                name=type(outcome).__name__, message=outcome.message, hint=outcome.hint, code=outcome.code
            )
        encoded = _EncodedReply(
            cached=reply.cached,
            must_restart=reply.must_restart,
            confinement=reply.confinement,
            error=error,
            render=outcome if isinstance(outcome, RenderReply) else None,
            rollout=outcome if isinstance(outcome, RolloutReply) else None,
            gltf=outcome if isinstance(outcome, GltfReply) else None,
        )
        self._encoder.encode_into(encoded, self._buffer, LENGTH.size)
        LENGTH.pack_into(self._buffer, 0, len(self._buffer) - LENGTH.size)
        self._stream.write(self._buffer)
        self._stream.flush()


async def read_reply(stream: ByteReader) -> WorkerReply:
    """Read a worker's next reply.

    Raises:
        EOFError: the worker ended.
        ValueError: it sent something that is not a reply.
    """
    (length,) = LENGTH.unpack(await stream.readexactly(LENGTH.size))
    if length > MAX_REPLY_BYTES:
        raise ValueError(f"a reply of {length} bytes; the limit is {MAX_REPLY_BYTES}")
    content = await stream.readexactly(length)
    # The caller may be checked by jaxtyping too: its axes have other sizes.
    with jaxtyped("context"):
        encoded = msgspec.msgpack.decode(content, type=_EncodedReply, dec_hook=_array)
    outcome = _vla_error(encoded.error) if encoded.error else encoded.render or encoded.rollout or encoded.gltf
    if outcome is None:
        raise ValueError("the reply has neither an error nor a result")
    return WorkerReply(
        outcome=outcome,
        cached=encoded.cached,
        must_restart=encoded.must_restart,
        confinement=encoded.confinement,
    )


def _plain(value: Any) -> Any:
    assert isinstance(value, np.ndarray), type(value)
    return value.dtype.str, value.shape, np.ascontiguousarray(value).data


def _array(_: type, value: Any) -> np.ndarray:
    """Decode an array; msgspec then checks it against the annotation of its field."""
    match value:
        case [str() as dtype, [*shape], bytes() as content] if dtype in DTYPES:
            return np.frombuffer(content, dtype).reshape(shape)
    raise ValueError("expected an array as [dtype, shape, bytes]")


def _vla_error(encoded: _EncodedError) -> errors.VLAError:
    kind = ERRORS.get(encoded.name, errors.SceneCrashed)
    error = kind.__new__(kind)
    # UnknownName forms its message from names that are not in the reply.
    errors.VLAError.__init__(error, encoded.message, hint=encoded.hint)
    error.code = encoded.code
    return error
