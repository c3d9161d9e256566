"""What a client's message of named values is to a policy: pictures by camera, proprio, a task, and a turn of a session.

Labs call their cameras what they like. The names that clients in use send are known; a server's `observation_keys` add
its lab's own.
"""

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.contract import Image, Observation, PolicySpec, Task
from vla_server_base.errors import ImageError, InstructionError, InvalidToken, ProtocolError, RequestError
from vla_server_base.turn import TurnRequest

A_PICTURE = "a picture is an array of uint8, height x width x 3, RGB"

KNOWN_KEYS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "primary": (
            "primary",
            "image_primary",
            "observation/image",
            "observation/exterior_image_1_left",
            "observation/exterior_image_0_left",
            "observation.images.primary",
            "observation.image",
            "image",
            "full_image",
            "agentview",
            "video.primary",
            "video.image",
        ),
        "wrist": (
            "wrist",
            "image_wrist",
            "observation/wrist_image",
            "observation/wrist_image_left",
            "observation.images.wrist",
            "wrist_image",
            "left_wrist_image",
            "video.wrist",
            "video.wrist_image",
        ),
        "proprio": ("proprio", "observation/state", "observation.state", "state"),
        "instruction": (
            "instruction",
            "prompt",
            "task",
            "text",
            "task_description",
            "language_instruction",
            "annotation.human.action.task_description",
        ),
    }
)
SESSION_KEYS = (
    "session_id",
    "session_token",
    "return_token",
    "reset",
    "seed",
    "sequence",
    "obs_time",
    "deadline_ms",
    "execution",
    "execution_horizon",
    "ensemble_weight",
    "dataset",
)


def observation_keys(config: ServerConfig) -> dict[str, tuple[str, ...]]:
    """Return by what keys a picture, proprio or the instruction is known, the server's own ones first.

    Raises:
        ConfigError: `config.observation_keys` is not of the form "primary=top wrist=hand".
    """
    keys = {name: tuple(known) for name, known in KNOWN_KEYS.items()}
    for entry in config.observation_keys.split():
        name, is_there, key = entry.partition("=")
        if name not in keys or not is_there or not key:
            raise ConfigError(
                f"VLA_OBSERVATION_KEYS: '{entry}' is not name=key", hint=f"names are: {', '.join(KNOWN_KEYS)}"
            )
        keys[name] = (key, *keys[name])
    return keys


@dataclass(frozen=True, kw_only=True)
class ObservationReader:
    """Reads messages for one policy; not for the event loop."""

    spec: PolicySpec
    keys: Mapping[str, Sequence[str]]
    max_image_pixels: int

    def turn(self, message: Mapping[str, Any]) -> TurnRequest:
        """Return the turn that a message is; what has no meaning here is left alone.

        Raises:
            ProtocolError, ImageError, InstructionError, RequestError: naming what the policy takes.
        """
        return TurnRequest(observation=self.observation(message), task=self.task(message), **session_fields(message))

    def observation(self, message: Mapping[str, Any]) -> Observation:
        """Return pictures and proprio."""
        images = {
            name: self._image(*found)
            for name in self.spec.camera_names
            if (found := self._find(message, name)) is not None
        }
        first = self.spec.camera_names[0]
        if first not in images:
            raise ProtocolError(
                f"there is no picture for the camera '{first}'; the message has: {_listed(message)}",
                hint=f"it is taken from: {', '.join(self.keys.get(first, (first,)))}; VLA_OBSERVATION_KEYS adds others",
            )
        return Observation(images=images, proprio=self._proprio(message))

    def task(self, message: Mapping[str, Any]) -> Task:
        """Return the instruction as a task."""
        _, instruction = self._find(message, "instruction") or ("", "")
        if not isinstance(instruction, str):
            # Some clients send one instruction for each robot of a batch of one.
            is_one = isinstance(instruction, list | tuple) and len(instruction) == 1
            instruction = instruction[0] if is_one else None
        if not isinstance(instruction, str) or not instruction.strip():
            raise InstructionError(
                "there is no instruction", hint=f"it is taken from: {', '.join(self.keys['instruction'])}"
            )
        if len(instruction) > self.spec.max_instruction_chars:
            given, limit = len(instruction), self.spec.max_instruction_chars
            raise InstructionError(f"the instruction has {given} characters, at most {limit} are taken")
        return Task(instruction=instruction)

    def _find(self, message: Mapping[str, Any], name: str) -> tuple[str, Any] | None:
        found = ((key, message[key]) for key in self.keys.get(name, (name,)) if message.get(key) is not None)
        return next(found, None)

    def _image(self, key: str, picture: Any) -> Image:
        if not isinstance(picture, np.ndarray):
            raise ImageError(f"{key} is {type(picture).__name__}, no array", hint=A_PICTURE)
        image: np.ndarray = picture
        # A batch, and a window, of one.
        while image.ndim > 3 and len(image) == 1:
            image = image[0]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ImageError(f"{key} is of {image.dtype} and shape {list(image.shape)}", hint=A_PICTURE)
        if image.shape[0] * image.shape[1] > self.max_image_pixels:
            raise ImageError(f"{key} has too many pixels, at most {self.max_image_pixels} are taken here")
        return image

    def _proprio(self, message: Mapping[str, Any]) -> np.ndarray | None:
        """Return the robot's own state; robots send it also to policies that take none."""
        found = self._find(message, "proprio")
        if found is None or not self.spec.proprio_dim:
            return None
        key, given = found
        try:
            numbers = np.asarray(given, np.float64).reshape(-1)
        except (TypeError, ValueError):
            numbers = np.full(1, np.nan)
        if len(numbers) != self.spec.proprio_dim or not np.isfinite(numbers).all():
            raise RequestError(f"{key}: this policy takes {self.spec.proprio_dim} finite numbers")
        return numbers


def session_fields(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a message says of its session, as fields of TurnRequest.

    Raises:
        RequestError: naming what cannot be.
    """
    fields: dict[str, Any] = {
        "session_id": _typed(message, "session_id", str),
        "return_token": bool(_typed(message, "return_token", bool)),
        "reset": bool(_typed(message, "reset", bool)),
        "seed": _bounded(message, "seed", 2**32),
        "sequence": _bounded(message, "sequence", 2**31),
        "obs_time": _finite(message, "obs_time"),
        "deadline_ms": _finite(message, "deadline_ms"),
    }
    if fields["deadline_ms"] is not None and fields["deadline_ms"] <= 0:
        raise RequestError("deadline_ms: it is not positive")
    settings = {
        "execution": _typed(message, "execution", str),
        "execution_horizon": _bounded(message, "execution_horizon", 2**31),
        "ensemble_weight": _finite(message, "ensemble_weight"),
        "dataset": _typed(message, "dataset", str),
    }
    if settings["execution"] not in (None, "receding", "chunk", "ensemble"):
        raise RequestError("execution: receding, chunk and ensemble are known")
    fields["settings"] = {name: value for name, value in settings.items() if value is not None}
    if (token := _token(message)) is not None:
        fields["token"] = token
    return fields


def _token(message: Mapping[str, Any]) -> bytes | None:
    token = message.get("session_token")
    if token is None or isinstance(token, bytes):
        return token
    try:
        return base64.b64decode(token, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise InvalidToken("the session token is neither bytes nor base64") from error


def _typed(message: Mapping[str, Any], name: str, kind: type) -> Any:
    value = message.get(name)
    if value is not None and type(value) is not kind:
        raise RequestError(f"{name}: it is {type(value).__name__}, not {kind.__name__}")
    return value


def _bounded(message: Mapping[str, Any], name: str, bound: int) -> int | None:
    value = _typed(message, name, int)
    if value is not None and not 0 <= value < bound:
        raise RequestError(f"{name}: it is not from 0 to {bound - 1}")
    return value


def _finite(message: Mapping[str, Any], name: str) -> float | None:
    value = message.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value):
        raise RequestError(f"{name}: it is no finite number")
    return float(value)


def _listed(message: Mapping[str, Any]) -> str:
    return ", ".join(str(key)[:40] for key in list(message)[:20]) or "nothing"
