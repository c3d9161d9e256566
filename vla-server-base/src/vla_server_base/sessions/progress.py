"""How far a session has come: the window, the chunk, and the place in the episode."""

from dataclasses import dataclass, field, replace

import numpy as np

from vla_server_base.contract import Observation, PolicySpec, Task
from vla_server_base.errors import ImageError, Superseded
from vla_server_base.sessions.action_chunking import ActionPlan, ObservationWindow
from vla_server_base.sessions.requests import StepRequest
from vla_server_base.sessions.settings import SessionSettings, new_plan


@dataclass(kw_only=True)
class SessionProgress:
    """All that changes in a session, and all that a session token carries."""

    seed: int
    history: ObservationWindow
    plan: ActionPlan
    task: Task | None = None
    episode: int = 0
    """How many episodes came before this one."""
    step: int = 0
    """The next request's, unless it skips some."""
    sequence: int | None = None
    obs_time: float | None = None
    inference_delay: int = 0
    """As it was measured last."""
    sources: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The camera group and camera of each camera's first image in this episode."""

    @property
    def num_image_bytes(self) -> int:
        """The size of the images in the window and in the goal."""
        goals = self.task.goal_images.values() if self.task else ()
        window = [image for observation in self.history.seen for image in observation.images.values()]
        return sum(image.nbytes for image in (*goals, *window))

    def age(self, request: StepRequest) -> int:
        """Return how many steps a request comes after the last one: 0 for the same one again.

        Raises:
            Superseded: it is older.
        """
        if request.sequence is not None and self.sequence is not None:
            age = request.sequence - self.sequence
            what, last = f"observation {request.sequence}", self.sequence
        elif request.obs_time is not None and self.obs_time is not None:
            age = int(np.sign(request.obs_time - self.obs_time))
            what, last = f"the observation of {request.obs_time} s", self.obs_time
        else:
            return 1 + request.num_skipped
        if age < 0:
            raise Superseded(
                f"{what} is older than {last}, which this session has seen",
                hint="send observations in order, or begin a new episode (reset)",
            )
        return age

    def is_certainly_next(self, request: StepRequest) -> bool:
        """Return whether a request shows that it is the last one again, or the one right after it."""
        if request.sequence is not None and self.sequence is not None:
            return 0 <= request.sequence - self.sequence <= 1
        return request.obs_time is not None and request.obs_time == self.obs_time

    def continues(self, task: Task, reset_on_new_task: bool) -> bool:
        """Return whether a request with this task belongs to the present episode."""
        return self.task is not None and (not reset_on_new_task or is_same_task(self.task, task))

    def visible(self, request: StepRequest) -> Observation:
        """Return the observation without the images of cameras that this episode did not begin with.

        When a camera misses a step, another camera of its group must not stand in for it.

        Raises:
            ImageError: no image is left.
        """
        images = request.observation.images
        others = {
            name: camera for name, (group, camera) in request.sources.items() if self._is_other(name, group, camera)
        }
        kept = {name: image for name, image in images.items() if name not in others}
        if not kept:
            first_cameras = ", ".join(self.sources[name][1] for name in others)
            raise ImageError(
                f"the only images are of {', '.join(others.values())}, and this episode began with {first_cameras}",
                hint="to change cameras, begin a new episode (reset)",
            )
        self.sources.update((name, source) for name, source in request.sources.items() if name in kept)
        return replace(request.observation, images=kept)

    def advance(self, request: StepRequest, observation: Observation, age: int) -> int:
        """Take in an observation that comes `age` steps after the last one, and return its step."""
        self.plan.skip(age)
        self.history.append(observation)
        self.task = request.task
        self.step += age
        self.sequence, self.obs_time = request.sequence, request.obs_time
        return self.step - 1

    def begin_episode(self, seed: int | None) -> None:
        """Forget the last episode; the seed stays unless there is a new one."""
        self.history.reset()
        self.plan.reset()
        self.task, self.step = None, 0
        self.episode += 1
        self.sequence = self.obs_time = None
        self.sources = {}
        self.seed = self.seed if seed is None else seed

    def _is_other(self, name: str, group: str, camera: str) -> bool:
        source = self.sources.get(name)
        return source is not None and source[0] == group and source[1] != camera


def new_progress(spec: PolicySpec, settings: SessionSettings, seed: int) -> SessionProgress:
    """Return the progress of a session that has not begun."""
    return SessionProgress(seed=seed, history=ObservationWindow(spec.window), plan=new_plan(spec, settings))


def is_same_task(task: Task, other: Task) -> bool:
    """Whether two tasks have the same instruction and goal images."""
    return task.instruction == other.instruction and (
        task.goal_images.keys() == other.goal_images.keys()
        and all(np.array_equal(image, other.goal_images[name]) for name, image in task.goal_images.items())
    )
