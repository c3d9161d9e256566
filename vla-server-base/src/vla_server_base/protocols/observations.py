"""What a client's message of named values is to a policy: pictures by camera, proprio, a task, and a turn of a session.

Labs call their cameras what they like. The names that clients in use send are known; a server's `observation_keys` add
its lab's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from pydantic import Field

from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.contract import Image, Observation, PolicySpec, Task
from vla_server_base.errors import ImageError, InstructionError, ProtocolError, RequestError
from vla_server_base.images import decode_picture
from vla_server_base.refusal import check_instruction, check_proprio
from vla_server_base.turn import EpisodeRequest, TurnRequest
from vla_server_base.wire.body import body_from_values
from vla_server_base.wire.session import TurnFields, settings_from_fields, turn_from_fields

A_PICTURE = "a picture is an array of uint8, height x width x 3, RGB, or the bytes of a PNG, JPEG or WebP file"

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
            "front",
            "base_camera",
            "rgb_static",
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
            "hand_camera",
            "rgb_gripper",
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


class MessageFields(TurnFields):
    """What a message says beside what the robot saw and is to do."""

    seed: int | None = Field(default=None, ge=0, lt=2**32)
    """The new session's, or with `reset` the new episode's."""
    dataset: str | None = None
    """Whose statistics un-normalize the actions."""

    @property
    def episode(self) -> EpisodeRequest:
        """What a message that begins an episode says of it."""
        settings = settings_from_fields(self, dataset=self.dataset)
        return EpisodeRequest(session_id=self.session_id, seed=self.seed, settings=settings)


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
        fields = body_from_values(MessageFields, message)
        observation, task = self.observation(message), self.task(message)
        return turn_from_fields(fields, observation, task, seed=fields.seed, dataset=fields.dataset)

    def observation(self, message: Mapping[str, Any]) -> Observation:
        """Return pictures, of at least one camera, and proprio."""
        images = {
            name: self._image(*found)
            for name in self.spec.camera_names
            if (found := self._find(message, name)) is not None
        }
        if not images:
            first = self.spec.camera_names[0]
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
        check_instruction(instruction, self.spec)
        return Task(instruction=instruction)

    def _find(self, message: Mapping[str, Any], name: str) -> tuple[str, Any] | None:
        found = ((key, message[key]) for key in self.keys.get(name, (name,)) if message.get(key) is not None)
        return next(found, None)

    def _image(self, key: str, picture: Any) -> Image:
        if isinstance(picture, bytes):
            return decode_picture(picture, key, self.max_image_pixels)
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
        if not np.isfinite(numbers).all():
            raise RequestError(f"{key}: it holds what is no finite number")
        check_proprio(len(numbers), self.spec)
        return numbers


def _listed(message: Mapping[str, Any]) -> str:
    return ", ".join(str(key)[:40] for key in list(message)[:20]) or "nothing"
