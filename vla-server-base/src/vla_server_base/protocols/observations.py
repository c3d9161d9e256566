"""Reads a client's message of named values: images by camera, proprio, a task, and the session's fields.

Labs give their cameras any names. The names that clients in use send are in `known_keys`; a server's
`observation_keys` take precedence.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vla_client.arrays import KINDS
from vla_server_base.contract import Image, Observation, PolicySpec, Task
from vla_server_base.engine.engine import Engine
from vla_server_base.errors import ProtocolError, RequestError
from vla_server_base.monitoring.traceparent import valid_traceparent
from vla_server_base.protocols.image_masks import without_masked_images
from vla_server_base.protocols.images import read_image
from vla_server_base.protocols.known_keys import GROUPS, KNOWN_KEYS, bare_key, is_of_other_side, lent_name, own_keys
from vla_server_base.protocols.message_fields import MessageFields, message_fields
from vla_server_base.protocols.named_values import NamedValue, named_values, select
from vla_server_base.request_inputs import PROPRIO, check_observation, check_task
from vla_server_base.schemas.observation import check_proprio
from vla_server_base.schemas.scene import instruction_or_default, known_dataset
from vla_server_base.schemas.session import settings_from_fields, step_from_fields
from vla_server_base.sessions.requests import EpisodeRequest, StepRequest


@dataclass(frozen=True, kw_only=True)
class ObservationReader:
    """Reads messages for one policy; not for the event loop.

    `lab_keys` are the server's `observation_keys`, which take precedence over the known ones; `default_instruction`
    replaces a missing instruction, if it is not empty. `fit_image` resizes images to the policy's size.

    `engine` is the policy's, in a server. `of_session` returns the reader for a session, which may be another model's.
    """

    spec: PolicySpec
    max_image_pixels: int
    lab_keys: Mapping[str, Sequence[str]] = field(default_factory=dict)
    default_instruction: str = ""
    fit_image: Callable[[str, Image], Image] = lambda _camera, image: image
    engine: Engine | None = None
    of_session: "Callable[[str], ObservationReader] | None" = None

    def step(self, message: Mapping[str, Any], *, executes_chunks: bool = False) -> StepRequest:
        """Return the control step that a message asks for; values without a meaning here are ignored.

        `executes_chunks` is for clients that execute the reply's chunk themselves.

        Raises:
            ProtocolError, ImageError, InstructionError, RequestError: naming what the policy takes.
        """
        values = named_values(message)
        fields = message_fields(message, values)
        reader = self._for(fields)
        return reader._step(values, fields, executes_chunks=executes_chunks)

    def _for(self, fields: MessageFields) -> "ObservationReader":
        """Return the reader for the session that a message names."""
        session_id = fields.session_id
        return self if session_id is None or self.of_session is None else self.of_session(session_id)

    def _step(self, values: Sequence[NamedValue], fields: MessageFields, *, executes_chunks: bool) -> StepRequest:
        images = self._images(values)
        observation = self._observation(values, images)
        self._check_complete(observation, values)
        task, task_note = self._task(values)
        dataset, dataset_note = self._dataset(fields)
        request = step_from_fields(fields, observation, task, seed=fields.seed, dataset=dataset)
        notes = tuple(note for note in (task_note, dataset_note) if note is not None)
        return replace(
            request,
            notes=notes,
            sources=self._sources(images),
            executes_chunks=executes_chunks,
            traceparent=valid_traceparent(fields.traceparent),
            engine=self.engine,
        )

    def episode(self, message: Mapping[str, Any], *, executes_chunks: bool = False) -> EpisodeRequest:
        """Return the episode that a message begins before its first step.

        Raises:
            RequestError, UnknownName: naming what is invalid or not supported.
        """
        fields = message_fields(message, named_values(message))
        reader = self._for(fields)
        dataset, _ = reader._dataset(fields)
        return EpisodeRequest(
            session_id=fields.session_id,
            seed=fields.seed,
            settings=settings_from_fields(fields, dataset=dataset),
            executes_chunks=executes_chunks,
            engine=reader.engine,
        )

    def keys_of(self, name: str) -> tuple[str, ...]:
        """Return the keys of a camera, of proprio or of the instruction, in order of precedence, a lab's first."""
        return (*self.lab_keys.get(name, ()), *self._own_keys(name), *self._lent_keys(name))

    def _own_keys(self, name: str) -> tuple[str, ...]:
        return self._not_of_others(own_keys(name), name)

    def _lent_keys(self, name: str) -> tuple[str, ...]:
        lent = lent_name(name, self.spec.camera_names) if name in self.spec.camera_names else None
        if lent is None:
            return ()
        keys = [*self.lab_keys.get(lent, ()), *KNOWN_KEYS[lent]]
        own = {bare_key(key) for key in own_keys(name)}
        lent_keys = [key for key in keys if bare_key(key) not in own and not is_of_other_side(key, name)]
        return self._not_of_others(lent_keys, name, lent)

    def _not_of_others(self, keys: Sequence[str], *names: str) -> tuple[str, ...]:
        """Return the keys without those that the policy or the lab gives another camera, which mean that one."""
        cameras = [camera for camera in self.spec.camera_names if camera not in names]
        others = {bare_key(form) for camera in cameras for form in (camera, f"image_{camera}")}
        others |= {bare_key(key) for other, lab in self.lab_keys.items() if other not in names for key in lab}
        return tuple(key for key in keys if bare_key(key) not in others)

    def _find(self, values: Sequence[NamedValue], name: str, what: str) -> NamedValue | None:
        """Return the value of a name: by a lab's keys, else by its own, else by those that are lent to it."""
        for key in self.lab_keys.get(name, ()):
            same_bare_key = [named for named in values if named.bare == bare_key(key)]
            if candidates := [named for named in same_bare_key if named.is_at(key)] or same_bare_key:
                return select(candidates, what, name)
        for keys in (self._own_keys(name), self._lent_keys(name)):
            known = {bare_key(key) for key in keys}
            if candidates := [named for named in values if named.bare in known]:
                return select(candidates, what, name)
        return None

    def _images(self, values: Sequence[NamedValue]) -> dict[str, NamedValue]:
        """Return the images by camera, at least one."""
        candidates = without_masked_images(values)
        images: dict[str, NamedValue] = {}
        for name in self.spec.camera_names:
            image = self._find(candidates, name, f"images of the camera '{name}'")
            if image is not None:
                images[name] = image
        if not images and not any(camera.required for camera in self.spec.cameras):
            first = self.spec.camera_names[0]
            raise ProtocolError(
                f"there is no image for the camera '{first}'; the message has: {_listed(values)}",
                hint=f"send it as one of: {', '.join(self.keys_of(first))}; VLA_OBSERVATION_KEYS adds others",
            )
        return images

    def _observation(self, values: Sequence[NamedValue], images: Mapping[str, NamedValue]) -> Observation:
        decoded = {
            name: self.fit_image(name, read_image(named.value, named.shown, self.max_image_pixels))
            for name, named in images.items()
        }
        return Observation(images=decoded, proprio=self._proprio(values))

    def _check_complete(self, observation: Observation, values: Sequence[NamedValue]) -> None:
        """Refuse an observation that lacks what the policy requires, with the keys under which it is known.

        Raises:
            ImageError, RequestError: naming what is missing, and what the message has.
        """
        check_observation(
            observation,
            self.spec,
            field_of=lambda name: "the robot's state" if name == PROPRIO else f"an image of the camera '{name}'",
            has=_listed(values),
            hint_for=lambda name: (
                f"send {name} as one of: {', '.join(self.keys_of(name))}; VLA_OBSERVATION_KEYS adds others"
            ),
        )

    def _sources(self, images: Mapping[str, NamedValue]) -> dict[str, tuple[str, str]]:
        """Return the group and the client's name of each image, where clients send several cameras of the group."""
        sources = {}
        for name, named in images.items():
            group = name if name in self.lab_keys else GROUPS.get(named.bare)
            if group is not None:
                sources[name] = (group, named.bare)
        return sources

    def _proprio(self, values: Sequence[NamedValue]) -> np.ndarray | None:
        """Return the robot's state; robots send it also to policies that take none."""
        if not self.spec.proprio_dim:
            return None
        state = self._find([named for named in values if named.value is not None], "proprio", "the robot's state")
        if state is None:
            return None
        numbers = _finite_numbers(state)
        check_proprio(numbers.tolist(), self.spec, state.shown)
        return numbers

    def _task(self, values: Sequence[NamedValue]) -> tuple[Task, str | None]:
        """Return the instruction as a task, and a note for the client.

        A value that is not text, such as the number of a task, is not an instruction.
        """
        known = {bare_key(key) for key in self.keys_of("instruction")}
        candidates = [replace(named, value=_as_text(named.value)) for named in values if named.bare in known]
        candidates = [named for named in candidates if named.value is not None and not _is_blank(named.value)]
        texts = [named for named in candidates if isinstance(named.value, str)]
        sent = self._find(texts, "instruction", "the instruction")
        default = "" if candidates else self.default_instruction
        instruction, note = instruction_or_default("" if sent is None else sent.value, default, self.spec)
        task = Task(instruction=instruction)
        hint = (
            f"send it as one of: {', '.join(self.keys_of('instruction'))};"
            " VLA_DEFAULT_INSTRUCTION sets one for messages without it"
        )
        check_task(task, self.spec, hint=hint)
        return task, note

    def _dataset(self, fields: MessageFields) -> tuple[str | None, str | None]:
        """Return the requested dataset, by the policy's name, and a note for the client."""
        asked = fields.dataset if fields.dataset is not None else fields.unnorm_key
        return (None, None) if asked is None else known_dataset(asked, self.spec)


def _finite_numbers(state: NamedValue) -> np.ndarray:
    try:
        array = np.asarray(state.value)
        numbers = array.astype(np.float64).reshape(-1) if array.dtype.kind in KINDS else np.full(1, np.nan)
    except ValueError:  # lists of several lengths
        numbers = np.full(1, np.nan)
    if not np.isfinite(numbers).all():
        raise RequestError(f"{state.shown}: expected finite numbers", hint="send a flat list or array of numbers")
    return numbers


def _as_text(value: Any) -> Any:
    """Return the text of a value that holds one: in lists of one, for each robot and timestep, or as its bytes."""
    while isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    with contextlib.suppress(UnicodeDecodeError):
        return value.decode() if isinstance(value, bytes) else value
    return value


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


def _listed(values: Sequence[NamedValue]) -> str:
    return ", ".join(named.shown[:40] for named in values[:20]) or "nothing"
