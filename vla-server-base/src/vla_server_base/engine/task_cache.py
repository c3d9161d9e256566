"""Preprocessed tasks, remembered by content: a control loop sends the same instruction at every step."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from vla_server_base.contract import PolicyArrays, Task

_NUM_TASKS = 256


class TaskCache:
    """`preprocess_instruction`, remembering the last results by the task's content."""

    def __init__(self, preprocess: Callable[[Task], PolicyArrays]):
        self._preprocess = preprocess
        self._lock = threading.Lock()
        self._results: OrderedDict[tuple, PolicyArrays] = OrderedDict()

    def __call__(self, task: Task) -> PolicyArrays:
        key = _content(task)
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
        result = self._preprocess(task)
        with self._lock:
            self._results[key] = result
            while len(self._results) > _NUM_TASKS:
                self._results.popitem(last=False)
        return result


def _content(task: Task) -> tuple:
    goals = [
        (name, image.shape, hashlib.sha256(np.ascontiguousarray(image)).digest())
        for name, image in sorted(task.goal_images.items())
    ]
    return (task.instruction, *goals)
