"""What GET /tasks and GET /tasks/{name}/trials/{seed} answer: the tabletop suite, in the form of requests."""

from typing import Any

from vla_server_base.schemas.base import Reply


class TaskReply(Reply):
    """A task of the suite."""

    name: str
    instruction: str
    """The simplest of its paraphrases."""
    robot: str
    scene: str
    """Robot and name of a bundled scene, as GET /scenes/{robot}/{scene} takes them."""
    success: list[dict[str, Any]]
    """What counts as success, as POST /execute takes it."""


class TasksReply(Reply):
    """The tasks of the suite."""

    tasks: list[TaskReply]


class TrialState(Reply):
    """Where a trial starts, as `state` of a request."""

    qpos: list[float]


class TrialReply(Reply):
    """A task with one placement of the objects, to be sent to POST /execute together with the scene."""

    instruction: str
    """One of the paraphrases, drawn with the seed."""
    scene: str
    """Robot and name of a bundled scene."""
    state: TrialState
    success: list[dict[str, Any]]
    """What counts as success."""
    seed: int
    """Of the placement; the suite gives it to the policy too."""
    max_steps: int
    """The suite's limit."""
