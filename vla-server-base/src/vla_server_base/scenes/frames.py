"""Bytes between the server and a scene worker.

To the worker: a length and a pickle. From the worker, which may have been taken over by a scene: lengths,
JSON and raw pixels, so that nothing it says is executed.
"""

import json
import pickle
import struct
from typing import Any, BinaryIO, Protocol

import numpy as np

from vla_server_base import errors
from vla_server_base.scenes.messages import Answer, Job, RenderReply, WorkerSettings

TO_WORKER = struct.Struct("<Q")
FROM_WORKER = struct.Struct("<IQ")
# The most that an answer may hold: two pictures of the largest size, and a long error.
MAX_HEADER_BYTES = 1 << 20
MAX_PIXEL_BYTES = 1 << 26

# The errors a worker may answer with; any other name counts as a crash.
ERRORS = {
    kind.__name__: kind
    for kind in (
        errors.RequestError,
        errors.UnknownName,
        errors.SceneError,
        errors.SceneRefused,
        errors.SceneState,
        errors.MissingAsset,
        errors.SceneTimeout,
        errors.SceneCrashed,
        errors.RendererUnavailable,
    )
}


class FrameReader(Protocol):
    """An asyncio.StreamReader, as far as an answer needs one."""

    async def readexactly(self, n: int) -> bytes: ...


def to_worker(message: WorkerSettings | Job) -> bytes:
    """Return the frame that carries a message to a worker."""
    body = pickle.dumps(message, protocol=5)
    return TO_WORKER.pack(len(body)) + body


def read_at_worker(stream: BinaryIO) -> Any:
    """Return the server's next message, or None at the end of the stream."""
    head = stream.read(TO_WORKER.size)
    if len(head) < TO_WORKER.size:
        return None
    return pickle.loads(stream.read(*TO_WORKER.unpack(head)))


def from_worker(answer: Answer) -> bytes:
    """Return the frame that carries an answer to the server."""
    header: dict[str, Any] = {"held": sorted(answer.held), "spent": answer.spent}
    pixels = b""
    if isinstance(answer.outcome, RenderReply):
        reply = answer.outcome
        pixels = b"".join(image.tobytes() for image in reply.images.values())
        header |= {
            "sizes": {name: image.shape[:2] for name, image in reply.images.items()},
            "cameras": dict(reply.cameras),
            "renderer": reply.renderer,
            "compile_ms": reply.compile_ms,
            "render_ms": reply.render_ms,
        }
    else:
        error = answer.outcome
        header |= {
            "error": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
            "code": error.code,
        }
    text = json.dumps(header).encode()
    return FROM_WORKER.pack(len(text), len(pixels)) + text + pixels


async def read_answer(stream: FrameReader) -> Answer:
    """Read a worker's next answer.

    Raises:
        EOFError: the worker ended.
        ValueError: it said something that is no answer.
    """
    num_text, num_pixels = FROM_WORKER.unpack(await stream.readexactly(FROM_WORKER.size))
    if num_text > MAX_HEADER_BYTES or num_pixels > MAX_PIXEL_BYTES:
        raise ValueError("an answer of that size is none")
    header = json.loads(await stream.readexactly(num_text))
    pixels = np.frombuffer(await stream.readexactly(num_pixels), np.uint8)
    try:
        outcome = _error(header) if "error" in header else _reply(header, pixels)
        return Answer(outcome=outcome, held=frozenset(header["held"]), spent=bool(header["spent"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("an answer lacks a field") from error


def _reply(header: dict[str, Any], pixels: np.ndarray) -> RenderReply:
    images, start = {}, 0
    for name, (height, width) in header["sizes"].items():
        end = start + height * width * 3
        images[name] = pixels[start:end].reshape(height, width, 3)
        start = end
    return RenderReply(
        images=images,
        cameras=header["cameras"],
        renderer=header["renderer"],
        compile_ms=float(header["compile_ms"]),
        render_ms=float(header["render_ms"]),
    )


def _error(header: dict[str, Any]) -> errors.VLAError:
    kind = ERRORS.get(header["error"], errors.SceneCrashed)
    error = kind.__new__(kind)
    # UnknownName forms its message from names that have not travelled.
    errors.VLAError.__init__(error, str(header["message"]), hint=header["hint"])
    error.code = str(header["code"])
    return error
