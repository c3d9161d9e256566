"""Inputs to test a policy with: windows of noise images, tasks, and preprocessed requests."""

from dataclasses import replace

import numpy as np

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.contract import (
    Image,
    Observation,
    PolicyInput,
    Task,
    Window,
)
from vla_server_base.sessions.action_chunking import ObservationWindow


def an_input(
    adapter: VLAModelAdapter,
    *,
    seed: int = 7,
    num_samples: int = 1,
    task: Task | None = None,
    image_seed: int = 0,
    num_seen: int = 1,
    cameras: list[str] | None = None,
) -> PolicyInput:
    """Return one preprocessed request, as the engine gives it to the policy."""
    window = a_window(adapter, image_seed=image_seed, num_seen=num_seen, cameras=cameras)
    return preprocessed(adapter, window, seed=seed, num_samples=num_samples, task=task)


def a_window(
    adapter: VLAModelAdapter,
    *,
    image_seed: int = 0,
    num_seen: int = 1,
    size: tuple[int, int] = (224, 224),
    cameras: list[str] | None = None,
) -> Window:
    """Return a window of noise images and of proprio where it is required; `num_seen` of its timesteps are real."""
    random = np.random.default_rng(image_seed)
    spec = adapter.spec
    names = cameras or [camera.name for camera in spec.cameras]
    history = ObservationWindow(spec.window)
    windows = []
    for _ in range(num_seen):
        images = {name: random.integers(0, 256, (*size, 3), np.uint8) for name in names}
        proprio = random.uniform(-0.1, 0.1, spec.proprio_dim) if spec.requires_proprio and spec.proprio_dim else None
        windows.append(history.append(Observation(images=images, proprio=proprio)))
    return windows[-1]


def camera_subsets(adapter: VLAModelAdapter) -> list[list[str]]:
    """Return the sets of cameras that an observation may have: the first and each required one, and more and more."""
    names = [camera.name for camera in adapter.spec.cameras]
    needed = {names[0], *(camera.name for camera in adapter.spec.cameras if camera.required)}
    prefixes = [names[: count + 1] for count in range(len(names))]
    subsets = [[name for name in names if name in needed or name in prefix] for prefix in prefixes]
    return [subset for number, subset in enumerate(subsets) if subset not in subsets[:number]]


def tasks(adapter: VLAModelAdapter) -> list[Task]:
    """Return one task of each kind that the policy accepts."""
    instruction = "pick up the red cube"
    if not adapter.spec.takes_instruction:
        return [Task(), Task(instruction=instruction)]
    if not adapter.spec.takes_goal_images:
        return [Task(instruction=instruction)]
    goals = {adapter.spec.cameras[0].name: np.full((224, 224, 3), 127, np.uint8)}
    return [
        Task(instruction=instruction),
        Task(goal_images=goals),
        Task(instruction=instruction, goal_images=goals),
    ]


def preprocessed(
    adapter: VLAModelAdapter, window: Window, *, seed: int = 7, num_samples: int = 1, task: Task | None = None
) -> PolicyInput:
    """Return a window and a task, preprocessed; the task is by default the first of `tasks`."""
    return PolicyInput(
        observation=adapter.preprocess_observation(window),
        task=adapter.preprocess_instruction(task or tasks(adapter)[0]),
        seed=seed,
        num_samples=num_samples,
    )


def with_last_image(window: Window, camera: str, image: Image) -> Window:
    """Return the window with another image of a camera at its last timestep."""
    *before, last = window.observations
    return replace(window, observations=(*before, replace(last, images={**last.images, camera: image})))


def without_image(window: Window, camera: str, timestep: int) -> Window:
    """Return the window without the image of a camera at a timestep."""
    steps = list(window.observations)
    images = {name: image for name, image in steps[timestep].images.items() if name != camera}
    steps[timestep] = replace(steps[timestep], images=images)
    return replace(window, observations=tuple(steps))
