"""Requests to an adapter, preprocessed as a server would."""

from collections.abc import Sequence

from lerobot_itself import TASK, an_observation

from lerobot_service.adapter import LeRobotAdapter
from vla_server_base.contract import Observation, PolicyInput, PolicySpec, Task
from vla_server_base.sessions.action_chunking import ObservationWindow


def seen_by(spec: PolicySpec, seed: int = 0) -> Observation:
    """Return an observation at the policy's sizes, of noise."""
    cameras = {each.name: (each.height, each.width) for each in spec.cameras}
    return an_observation(cameras, spec.proprio_dim or 0, seed)


def an_input(
    adapter: LeRobotAdapter, observations: Sequence[Observation], text: str = TASK, *, seed: int = 0, **fields
) -> PolicyInput:
    """Return the request of a robot that saw these observations, one after the other."""
    history = ObservationWindow(adapter.spec.window)
    *_, window = [history.append(each) for each in observations]
    observation, task = adapter.preprocess_observation(window), adapter.preprocess_instruction(Task(instruction=text))
    return PolicyInput(observation=observation, task=task, seed=seed, **fields)
