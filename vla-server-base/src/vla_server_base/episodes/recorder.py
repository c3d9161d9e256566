"""Keeps of an episode, while it is played, what its recordings need."""

import base64
import importlib.util

import numpy as np

from vla_server_base.contract import Image, Task
from vla_server_base.datasets.episode import RecordedEpisode
from vla_server_base.episodes.events import EpisodeChange, EpisodeEvent, EpisodeStart, EpisodeStep
from vla_server_base.episodes.policies import ARM_ACTION
from vla_server_base.episodes.recording import RecordingKind, animated_webp, lerobot_dataset, state_log
from vla_server_base.episodes.settings import EpisodeSettings
from vla_server_base.errors import RequestError
from vla_server_base.extras import how_to_install
from vla_server_base.scenes.messages import Pose, RenderedView, Scene, SimulationState

_LEROBOT_NEEDS = ("pyarrow", "av")
_POSE_NAMES = ("x", "y", "z", "qw", "qx", "qy", "qz")


def possible_recordings() -> tuple[RecordingKind, ...]:
    """Return what can be recorded with the packages that are installed."""
    has_packages = all(importlib.util.find_spec(name) for name in _LEROBOT_NEEDS)
    return ("webp", "state_log", "lerobot") if has_packages else ("webp", "state_log")


def check_recordings(kinds: tuple[RecordingKind, ...], rate_hz: float) -> None:
    """Check that an episode of this rate can be recorded so.

    Raises:
        RequestError: packages are missing, or the rate is not a whole number, which LeRobot's format requires.
    """
    if "lerobot" not in kinds:
        return
    if "lerobot" not in possible_recordings():
        raise RequestError("record: a LeRobot dataset needs packages that are missing", hint=how_to_install("datasets"))
    if rate_hz != int(rate_hz):
        raise RequestError(
            f"record: expected a whole control.rate_hz for a LeRobot dataset, got {rate_hz:g}", hint="send 5 or 10"
        )


class Recorder:
    """Keeps states and images for the recordings that were asked for."""

    def __init__(self, scene: Scene, task: Task, settings: EpisodeSettings, kinds: tuple[RecordingKind, ...]):
        self._scene, self._settings, self._kinds = scene, settings, kinds
        self._frames: list[Image] = []
        self._states: list[SimulationState] = []
        self._timesteps = [_Timesteps(task)] if "lerobot" in kinds else []
        """Of each task, for a dataset has one for each of its episodes."""
        self._robot = ""

    def add(self, event: EpisodeEvent) -> None:
        """Take what the next event of the episode shows."""
        if isinstance(event, EpisodeStart):
            self._robot = event.robot.name
            self._keep(event.state, event.view)
        elif isinstance(event, EpisodeStep):
            self._keep(event.result.state, event.view)
        if self._timesteps:
            if isinstance(event, EpisodeChange) and event.change is not None and event.change.instruction is not None:
                self._timesteps.append(self._timesteps[-1].followed_by(event.change.instruction))
            self._timesteps[-1].add(event)

    def recordings(self) -> dict[str, str]:
        """Return the recordings as text: files of bytes as base64."""
        recordings = {}
        rate_hz = self._settings.control.rate_hz
        if self._frames:
            recordings["webp"] = _base64(animated_webp(self._frames, rate_hz))
        if self._states:
            recordings["state_log"] = state_log(self._scene.xml, self._states)
        episodes = [timesteps.episode(self._settings.seed) for timesteps in self._timesteps if timesteps.actions]
        if episodes:
            recordings["lerobot"] = _base64(lerobot_dataset(episodes, rate_hz, self._robot))
        return recordings

    def _keep(self, state: SimulationState, view: RenderedView | None) -> None:
        if "state_log" in self._kinds:
            self._states.append(state)
        if "webp" in self._kinds and view is not None:
            self._frames.append(next(iter(view.images.values())))


class _Timesteps:
    """What a policy would learn a task from: each action, with the observation before it."""

    def __init__(self, task: Task):
        self._task = task
        self.actions: list[np.ndarray] = []
        self._views: list[RenderedView] = []
        self._states: list[np.ndarray] = []
        self._view: RenderedView | None = None
        self._state = np.empty(0)
        self._names: tuple[str, ...] = ()

    def add(self, event: EpisodeEvent) -> None:
        if isinstance(event, EpisodeStart):
            self._state, self._names = _state(event.proprio, event.pose), event.proprio_names
        if isinstance(event, EpisodeStep):
            assert self._view is not None, "every observation of a recorded episode has images"
            self.actions.append(event.action)
            self._views.append(self._view)
            self._states.append(self._state)
            self._state = _state(event.proprio, event.result.pose)
        if isinstance(event, EpisodeStart | EpisodeStep | EpisodeChange) and event.view is not None:
            self._view = event.view

    def followed_by(self, instruction: str) -> "_Timesteps":
        """Return those of another task, without any yet, which goes on from here."""
        following = _Timesteps(Task(instruction=instruction))
        following._view, following._state, following._names = self._view, self._state, self._names
        return following

    def episode(self, seed: int) -> RecordedEpisode:
        """Return them as datasets have them.

        Proprio is the policy's own; for a policy without, the end effector's pose, x y z [m] and w x y z.
        """
        cameras = self._views[0].images
        return RecordedEpisode.of(
            images={name: np.stack([view.images[name] for view in self._views]) for name in cameras},
            proprio=np.stack(self._states),
            actions=np.stack(self.actions),
            instruction=self._task.instruction or "",
            metadata={"seed": seed},
            proprio_names=self._names or _POSE_NAMES,
            action_names=ARM_ACTION,
        )


def _state(proprio: np.ndarray | None, pose: Pose) -> np.ndarray:
    return np.concatenate([pose.position, pose.quaternion]) if proprio is None else proprio


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
