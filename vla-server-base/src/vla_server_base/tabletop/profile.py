"""What the suite gives to a policy that it judges: its cameras, its state, and how its actions are executed."""

from collections.abc import Mapping
from dataclasses import dataclass

from vla_server_base.contract import PolicySpec
from vla_server_base.episodes.chunk_plan import check_plan
from vla_server_base.episodes.policies import check_drives_arm
from vla_server_base.episodes.settings import EpisodeSettings
from vla_server_base.errors import UnknownName
from vla_server_base.scenes.camera_choice import choose_cameras
from vla_server_base.scenes.messages import View, choose_proprio, policy_view
from vla_server_base.sessions.settings import SessionSettings
from vla_server_base.tabletop.tables import table_of

CAMERAS = ("primary", "wrist")
"""Of every tabletop."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a policy gets in the suite, and how its chunks are executed; `str` says it in a line.

    `cameras` are the tabletop's, by the policy's names; `proprio_names` the measured numbers, in the policy's order;
    `rate_hz` of the suite's actions, and `trained_hz` of the policy's own, where it is known.
    """

    cameras: Mapping[str, str]
    proprio_names: tuple[str, ...]
    reads_instruction: bool
    execution: SessionSettings
    rate_hz: float
    trained_hz: float | None

    def __str__(self) -> str:
        """Return it as a report has it."""
        cameras = ", ".join(f"{name}={of_scene}" for name, of_scene in self.cameras.items())
        return "; ".join((f"cameras {cameras}", self._state, self._actions, self._task, self._execution))

    @property
    def _state(self) -> str:
        if not self.proprio_names:
            return "no state"
        joints = [name for name in self.proprio_names if name != "gripper"]
        gripper = ["gripper"] if "gripper" in self.proprio_names else []
        kinds = "+".join((["joints"] if joints else []) + gripper)
        return f"state {kinds} ({len(self.proprio_names)})"

    @property
    def _actions(self) -> str:
        of_policy = "" if self.trained_hz in (None, self.rate_hz) else f" (the policy's are at {self.trained_hz:g} Hz)"
        return f"actions ee_delta at {self.rate_hz:g} Hz{of_policy}"

    @property
    def _task(self) -> str:
        return "instruction" if self.reads_instruction else "no instruction"

    @property
    def _execution(self) -> str:
        numbers = {"receding": "", "ensemble": f" {self.execution.ensemble_weight:g}"}
        kind = self.execution.execution
        return f"execution {kind}{numbers.get(kind, f' {self.execution.execution_horizon}')}"


def profile_of(spec: PolicySpec, robot: str, settings: EpisodeSettings) -> Profile:
    """Return what a policy gets on a robot's tabletop in episodes of these settings.

    Raises:
        RequestError, SceneError: the suite cannot give what the policy requires, or execute what it answers.
        UnknownName: the robot has no tabletop, or there is no such camera.
    """
    measured = (*table_of(robot).joints, "gripper")
    check_drives_arm(spec.action_names)
    indices = choose_proprio(spec, measured).indices or ()
    _check_substitutes(spec, settings.view)
    cameras = choose_cameras(CAMERAS, policy_view(spec, settings.view))
    return Profile(
        cameras={name: CAMERAS[index] for name, index in cameras.items()},
        proprio_names=tuple(measured[index] for index in indices),
        reads_instruction=spec.takes_instruction,
        execution=check_plan(spec, settings),
        rate_hz=settings.control.rate_hz,
        trained_hz=spec.control_hz,
    )


def _check_substitutes(spec: PolicySpec, view: View) -> None:
    """Refuse a choice of cameras that the tabletop or the policy does not have; of other scenes it may be."""
    for camera, of_scene in view.substitutes.items():
        if camera not in spec.camera_names:
            raise UnknownName("camera of the policy", camera, spec.camera_names)
        if of_scene not in CAMERAS:
            raise UnknownName("camera of the tabletop", of_scene, CAMERAS)
