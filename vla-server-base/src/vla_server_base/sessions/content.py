"""A session's state as tokens and stores hold it: MessagePack, with each array as its type, shape and bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from vla_server_base.contract import Observation, PolicySpec, Task
from vla_server_base.sessions.progress import SessionProgress, new_progress
from vla_server_base.sessions.settings import SessionSettings

VERSION = 4
"""Raise it with every change of what tokens or stores hold: servers of one fleet may differ during an update."""


LONG_BYTES = 2**20
"""What takes longer to encode and to decode than the way to a thread and back."""


class UnreadableContent(Exception):
    """A state that cannot go on here; the message completes a sentence about what holds it."""


def encoded(content: Mapping[str, Any]) -> bytes:
    """Return the bytes of a state; not for the event loop where it has megabytes."""
    return msgspec.msgpack.encode(content, enc_hook=_from_array)


def decoded(packed: bytes) -> Mapping[str, Any]:
    """Return the state of bytes; not for the event loop where it has megabytes.

    Raises:
        UnreadableContent: it was made by another version of this server.
    """
    content = msgspec.msgpack.decode(packed)
    if content["version"] != VERSION:
        raise UnreadableContent("was made by another version of this server")
    return content


def progress_content(progress: SessionProgress) -> dict[str, Any]:
    """Return a session's progress; arrays are not copied."""
    task = progress.task
    return {
        "seed": progress.seed,
        "episode": progress.episode,
        "step": progress.step,
        "sequence": progress.sequence,
        "obs_time": progress.obs_time,
        "inference_delay": progress.inference_delay,
        "sources": progress.sources,
        "task": None if task is None else {"instruction": task.instruction, "goal_images": dict(task.goal_images)},
        "seen": [{"images": dict(each.images), "proprio": each.proprio} for each in progress.history.seen],
        "plan": progress.plan.state(),
    }


def progress_of(content: Mapping[str, Any], spec: PolicySpec, settings: SessionSettings) -> SessionProgress:
    """Return the progress of `progress_content`.

    Raises:
        UnreadableContent: its chunks are not such as the policy's.
    """
    progress = new_progress(spec, settings, content["seed"])
    for observation in content["seen"]:
        proprio = observation["proprio"]
        images = {name: to_array(image) for name, image in observation["images"].items()}
        progress.history.append(Observation(images=images, proprio=None if proprio is None else to_array(proprio)))
    task = content["task"]
    if task is not None:
        goals = {name: to_array(image) for name, image in task["goal_images"].items()}
        progress.task = Task(instruction=task["instruction"], goal_images=goals)
    progress.plan.restore(_to_plan(content["plan"], spec, settings))
    for name in ("episode", "step", "sequence", "obs_time", "inference_delay"):
        setattr(progress, name, content[name])
    progress.sources = {name: (group, camera) for name, (group, camera) in content["sources"].items()}
    return progress


def _to_plan(content: Sequence[Mapping[str, Any]], spec: PolicySpec, settings: SessionSettings) -> list[np.ndarray]:
    """Return a plan's state; the checkpoint in the model's folder may be another than the state's."""
    state, actions = [to_array(array) for array in content], spec.actions.get(settings.dataset)
    chunks = [array for array in state if array.ndim == 2]
    if any(actions is None or len(each) > spec.horizon or each.shape[1] != len(actions.names) for each in chunks):
        raise UnreadableContent("has chunks of another policy than this server's")
    return state


def _from_array(array: object) -> dict[str, Any]:
    if not isinstance(array, np.ndarray):
        raise NotImplementedError(type(array))
    return {"dtype": array.dtype.str, "shape": array.shape, "data": array.tobytes()}


def to_array(content: Mapping[str, Any]) -> np.ndarray:
    """Return an array of a state; it cannot be written to."""
    return np.frombuffer(content["data"], content["dtype"]).reshape(content["shape"])
