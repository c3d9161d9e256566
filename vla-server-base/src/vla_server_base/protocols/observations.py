"""What a client's message of named values is to a policy: pictures by camera, proprio, a task, and a turn of a session.

Labs call their cameras what they like. The names that clients in use send are known (`known_keys`); a server's
`observation_keys` go before them.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vla_client.arrays import KINDS
from vla_server_base.contract import Image, Observation, PolicySpec, Task
from vla_server_base.errors import InstructionError, ProtocolError, RequestError
from vla_server_base.protocols.known_keys import ALSO_NUMBERS, GROUPS, KNOWN_KEYS, bare_key
from vla_server_base.protocols.named_values import NamedValue, named_values, the_one
from vla_server_base.protocols.pictures import read_picture
from vla_server_base.protocols.unsupported import refuse_not_done
from vla_server_base.schemas.base import body_from_values
from vla_server_base.schemas.observation import check_proprio
from vla_server_base.schemas.ranges import Seed
from vla_server_base.schemas.session import StepFields, settings_from_fields, step_from_fields
from vla_server_base.schemas.task import instruction_or_default, known_dataset
from vla_server_base.sessions.step import EpisodeRequest, TurnRequest

_MASKS = ("image_mask", "image_masks")


class MessageFields(StepFields):
    """What a message says beside what the robot saw and is to do."""

    seed: Seed | None = None
    """The new session's, or with `reset` the new episode's."""
    dataset: str | None = None
    """Whose statistics un-normalize the actions."""
    unnorm_key: str | None = None
    """The same, as OpenVLA's clients have it."""


@dataclass(frozen=True, kw_only=True)
class ObservationReader:
    """Reads messages for one policy; not for the event loop.

    `own_keys` are a lab's own, which go before those that are known; `default_instruction` stands in for one that a
    message does not say, where it is not empty. `fit_image` makes pictures as small as the policy's own.
    """

    spec: PolicySpec
    max_image_pixels: int
    own_keys: Mapping[str, Sequence[str]] = field(default_factory=dict)
    default_instruction: str = ""
    fit_image: Callable[[str, Image], Image] = lambda _camera, image: image

    def turn(self, message: Mapping[str, Any]) -> TurnRequest:
        """Return the turn that a message is; what has no meaning here is left alone.

        Raises:
            ProtocolError, ImageError, InstructionError, RequestError: naming what the policy takes.
        """
        values = named_values(message)
        fields = _fields(message, values)
        pictures = self._pictures(values)
        observation = self._observation(values, pictures)
        task, task_note = self._task(values)
        dataset, dataset_note = self._dataset(fields)
        turn = step_from_fields(fields, observation, task, seed=fields.seed, dataset=dataset)
        notes = tuple(note for note in (task_note, dataset_note) if note is not None)
        return replace(turn, notes=notes, sources=self._sources(pictures))

    def episode(self, message: Mapping[str, Any]) -> EpisodeRequest:
        """Return what a message says that begins an episode before its first turn.

        Raises:
            RequestError, UnknownName: naming what cannot be, or is not done here.
        """
        fields = _fields(message, named_values(message))
        dataset, _ = self._dataset(fields)
        settings = settings_from_fields(fields, dataset=dataset)
        return EpisodeRequest(session_id=fields.session_id, seed=fields.seed, settings=settings)

    def keys_of(self, name: str) -> tuple[str, ...]:
        """Return by which keys a picture, proprio or the instruction is known, a lab's own in front."""
        return (*self.own_keys.get(name, ()), *self._known_keys(name))

    def _known_keys(self, name: str) -> tuple[str, ...]:
        known = KNOWN_KEYS.get(name, (name, f"image_{name}"))
        # What the policy or the lab calls another camera means that one.
        others = {other for other in self.spec.camera_names if other != name}
        others |= {bare_key(key) for other, keys in self.own_keys.items() if other != name for key in keys}
        return tuple(key for key in known if key not in others)

    def _find(self, values: Sequence[NamedValue], name: str, what: str) -> NamedValue | None:
        """Return the value that is meant by a name: by a lab's own keys, else by those that are known."""
        for key in self.own_keys.get(name, ()):
            there = [named for named in values if named.bare == bare_key(key)]
            if found := [named for named in there if named.is_at(key)] or there:
                return the_one(found, what, name)
        known = {bare_key(key) for key in self._known_keys(name)}
        return the_one([named for named in values if named.bare in known], what, name)

    def _pictures(self, values: Sequence[NamedValue]) -> dict[str, NamedValue]:
        """Return the policy's cameras' pictures, of at least one."""
        masked = _masked(values)
        seen = [named for named in values if _is_there(named) and named.bare not in masked]
        found = {name: self._find(seen, name, f"pictures of the camera '{name}'") for name in self.spec.camera_names}
        pictures = {name: picture for name, picture in found.items() if picture is not None}
        if not pictures:
            first = self.spec.camera_names[0]
            raise ProtocolError(
                f"there is no picture for the camera '{first}'; the message has: {_listed(values)}",
                hint=f"it is taken from: {', '.join(self.keys_of(first))}; VLA_OBSERVATION_KEYS adds others",
            )
        return pictures

    def _observation(self, values: Sequence[NamedValue], pictures: Mapping[str, NamedValue]) -> Observation:
        images = {
            name: self.fit_image(name, read_picture(found.value, found.shown, self.max_image_pixels))
            for name, found in pictures.items()
        }
        return Observation(images=images, proprio=self._proprio(values))

    def _sources(self, pictures: Mapping[str, NamedValue]) -> dict[str, tuple[str, str]]:
        """Return which camera each picture is of, where others may come along: of a group, or beside a lab's own."""
        sources = {}
        for name, found in pictures.items():
            group = name if name in self.own_keys else GROUPS.get(found.bare)
            if group is not None:
                sources[name] = (group, found.bare)
        return sources

    def _proprio(self, values: Sequence[NamedValue]) -> np.ndarray | None:
        """Return the robot's own state; robots send it also to policies that take none."""
        if not self.spec.proprio_dim:
            return None
        found = self._find([named for named in values if named.value is not None], "proprio", "the robot's state")
        if found is None:
            return None
        try:
            given = np.asarray(found.value)
            numbers = given.astype(np.float64).reshape(-1) if given.dtype.kind in KINDS else np.full(1, np.nan)
        except ValueError:  # lists of several lengths
            numbers = np.full(1, np.nan)
        if not np.isfinite(numbers).all():
            raise RequestError(f"{found.shown}: it holds what is no finite number")
        check_proprio(numbers.tolist(), self.spec, found.shown)
        return numbers

    def _task(self, values: Sequence[NamedValue]) -> tuple[Task, str | None]:
        """Return the instruction as a task, and what the client is to be told of it.

        A number or the like beside the instruction is none, such as which task of a list it is.
        """
        known = {bare_key(key) for key in self.keys_of("instruction")}
        said = [replace(named, value=_as_text(named.value)) for named in values if named.bare in known]
        said = [named for named in said if named.value is not None and not _is_blank(named.value)]
        texts = [named for named in said if isinstance(named.value, str)]
        found = self._find(texts, "instruction", "the instruction")
        default = "" if said else self.default_instruction
        instruction, note = instruction_or_default("" if found is None else found.value, default, self.spec)
        if instruction is None:
            raise InstructionError(
                "there is no instruction",
                hint=f"it is taken from: {', '.join(self.keys_of('instruction'))};"
                " VLA_DEFAULT_INSTRUCTION stands in where there is none",
            )
        return Task(instruction=instruction), note

    def _dataset(self, fields: MessageFields) -> tuple[str | None, str | None]:
        """Return whose statistics are asked for, as the policy calls them, and what the client is to be told of it."""
        asked = fields.dataset if fields.dataset is not None else fields.unnorm_key
        return (None, None) if asked is None else known_dataset(asked, self.spec)


def _fields(message: Mapping[str, Any], values: Sequence[NamedValue]) -> MessageFields:
    """Return what a message, of these values, says of its session.

    Raises:
        RequestError: naming what cannot be, or is not done here.
    """
    refuse_not_done((named.bare, named.value) for named in values)
    fields = body_from_values(MessageFields, message)
    if fields.dataset is not None and fields.unnorm_key not in (None, fields.dataset):
        raise RequestError("dataset and unnorm_key name two datasets", hint="give one")
    return fields


def _is_there(named: NamedValue) -> bool:
    value = named.value
    if named.bare in ALSO_NUMBERS:
        return isinstance(value, bytes) or (isinstance(value, np.ndarray) and value.ndim > 1)
    return value is not None


def _masked(values: Sequence[NamedValue]) -> set[str]:
    """Return the names of pictures that the message's own mask says are none, as openpi's models have it.

    Raises:
        ProtocolError: a mask is neither yes nor no.
    """
    masked: set[str] = set()
    for named in values:
        place, _, name = named.bare.partition(".")
        if place in _MASKS and name:
            mask = np.asarray(named.value) if isinstance(named.value, bool | np.ndarray) else None
            if mask is None or mask.dtype != bool or mask.size != 1:
                raise ProtocolError(f"{named.shown} is neither true nor false")
            if not mask.all():
                masked.add(name)
    return masked


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
