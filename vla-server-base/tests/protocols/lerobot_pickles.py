"""What LeRobot's client pickles, without LeRobot; and what it makes of an answer, without torch."""

import io
import pickle
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest

NOW, BEFORE = "lerobot.async_inference.helpers", "lerobot.scripts.server.helpers"
_lock = threading.Lock()  # several robots pickle at a time


@contextmanager
def classes_of(module: str):
    """LeRobot's records, as classes that are in `module` for the length of a `with` block."""
    names = ("TimedObservation", "RemotePolicyConfig", "FPSTracker")
    helpers = ModuleType(module)
    for name in names:
        setattr(helpers, name, type(name, (), {"__module__": module}))
    # Not patch.dict: it empties sys.modules for a moment, and the server's threads look there meanwhile.
    with _lock, pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "lerobot", ModuleType("lerobot"))
        patch.setitem(sys.modules, module, helpers)
        yield helpers


def pickled_record(name: str, fields: dict, module: str = NOW, protocol: int = 4) -> bytes:
    with classes_of(module) as helpers:
        record = getattr(helpers, name)()
        record.__dict__.update(fields)
        return pickle.dumps(record, protocol=protocol)


def pickled_observation(observation: dict, timestep: int = 0, must_go: bool = True, **how) -> bytes:
    fields = {"timestamp": 10.0, "timestep": timestep, "observation": observation, "must_go": must_go}
    return pickled_record("TimedObservation", fields, **how)


def pickled_setup(**fields) -> bytes:
    state = {"dtype": "float32", "shape": (3,), "names": ["a.pos", "b.pos", "c.pos"]}
    known = {
        "policy_type": "act",
        "pretrained_name_or_path": "someone/some-model",
        "lerobot_features": {"observation.state": state},
        "actions_per_chunk": 50,
        "device": "cpu",
    }
    return pickled_record("RemotePolicyConfig", known | fields)


class Payload:
    """Calls what it is given when it is unpickled."""

    def __init__(self, call, *arguments):
        self._made_by = call, arguments

    def __reduce__(self):
        return self._made_by


@dataclass
class TimedAction:
    timestamp: float
    timestep: int
    action: np.ndarray


class _Answer(pickle.Unpickler):
    def find_class(self, module, name):
        return {(NOW, "TimedAction"): TimedAction, ("torch", "tensor"): np.float32}[module, name]


def timed_actions(answer: bytes) -> list[TimedAction]:
    """Unpickle an answer as LeRobot's client does."""
    return _Answer(io.BytesIO(answer)).load()
