"""Who drives the arm in a demonstration: the expert, disturbed now and then, or at first a policy."""

import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from vla_server_base.contract import Observation, Task
from vla_server_base.episodes.interfaces import EpisodePolicy
from vla_server_base.errors import RequestError
from vla_server_base.scenes.messages import RenderedView
from vla_server_base.sessions.action_chunking import ObservationWindow, RecedingHorizon
from vla_server_base.tabletop.experts import OPEN, STRIDE_M, TURN_RAD, shortened
from vla_server_base.tabletop.trials import Trial


@dataclass(frozen=True, kw_only=True)
class Disturbances:
    """What goes wrong now and then, so that demonstrations show how to recover.

    At each step a nudge begins with the chance `nudge_rate`: for `nudge_steps` steps, the executed motion is off by
    one drawn from +-`nudge_m` along each axis and +-`nudge_rad` of yaw. With the chance `drop_rate` the gripper is open
    for `drop_steps` steps, whatever it was to do.
    """

    nudge_rate: float = 0.06
    nudge_steps: int = 3
    nudge_m: float = 0.03
    nudge_rad: float = 0.15
    drop_rate: float = 0.02
    drop_steps: int = 2


@dataclass(frozen=True, kw_only=True)
class Lead:
    """A policy that drives at first, so that the expert shows what to do where the policy leads (DAgger).

    It does so with the chance `share`, for a number of steps that is drawn from 0 to `max_steps`, both included; None
    lets it drive to the end. It is asked again after `execution_horizon` actions of each chunk.
    """

    policy: EpisodePolicy
    share: float = 1.0
    max_steps: int | None = 25
    execution_horizon: int = 1

    def num_steps(self, trial: Trial, max_steps: int) -> int:
        """Return for how many of at most `max_steps` steps of a trial the policy drives."""
        random = np.random.default_rng([trial.seed, 2, zlib.crc32(trial.task.name.encode())])
        leads, longest = random.random() < self.share, max_steps if self.max_steps is None else self.max_steps
        num_steps = longest if self.max_steps is None else int(random.integers(longest + 1))
        return num_steps if leads else 0


class Driver:
    """Gives one trial's actions: the policy's as long as it leads, then the expert's, disturbed."""

    def __init__(self, trial: Trial, disturbances: Disturbances | None, lead: Lead | None, max_steps: int):
        self._num_led = lead.num_steps(trial, max_steps) if lead else 0
        self._policy = _LeadingPolicy(lead, trial) if lead else None
        self._disturbed = _Disturbed(disturbances, trial.seed, max_steps)

    def expert_drives(self, step: int) -> bool:
        """Say whether it is the expert's action that is executed at a step."""
        return step >= self._num_led

    async def action(
        self, step: int, label: Float[np.ndarray, " 7"], pictures: RenderedView | None
    ) -> Float[np.ndarray, " 7"]:
        """Return what is executed, where `label` is what the expert would do."""
        if self._policy is None or self.expert_drives(step):
            return self._disturbed.action(step, label)
        assert pictures is not None, "a policy that leads needs a view"
        return await self._policy.action(step, pictures)


class _LeadingPolicy:
    """The policy of a Lead in one episode, shown what `episodes.play` shows it."""

    def __init__(self, lead: Lead, trial: Trial):
        self._policy, self._seed = lead.policy, trial.seed
        self._task = Task(instruction=trial.instruction)
        self._history = ObservationWindow(lead.policy.window)
        self._horizon = lead.execution_horizon
        self._plan = RecedingHorizon(self._horizon)

    async def action(self, step: int, pictures: RenderedView) -> Float[np.ndarray, " 7"]:
        """Return the action for what is seen now.

        Raises:
            RequestError: its chunks are shorter than what is to be executed of each.
        """
        seen = {name: image for name, image in pictures.images.items() if name in self._policy.cameras}
        window = self._history.append(Observation(images=seen))
        if not self._plan.num_queued:
            chunk = await self._policy.predict(window, self._task, self._seed, step)
            if len(chunk) < self._horizon:
                raise RequestError(f"a policy is to do {self._horizon} actions of each chunk, and gives {len(chunk)}")
            self._plan.put(chunk)
        return self._plan.next_action()


class _Disturbed:
    """What becomes of an expert's actions; drawn ahead, so that it depends on nothing but its arguments."""

    def __init__(self, disturbances: Disturbances | None, seed: int, num_steps: int):
        self._shifts: Float[np.ndarray, "steps 4"] = np.zeros((num_steps, 4))
        self._drops: Bool[np.ndarray, " steps"] = np.zeros(num_steps, bool)
        if disturbances is None:
            return
        what, random = disturbances, np.random.default_rng([seed, 1])
        bounds = np.array([what.nudge_m, what.nudge_m, what.nudge_m, what.nudge_rad])
        for step in range(num_steps):
            shift, (nudged, dropped) = random.uniform(-bounds, bounds), random.random(2)
            if nudged < what.nudge_rate:
                self._shifts[step : step + what.nudge_steps] = shift
            if dropped < what.drop_rate:
                self._drops[step : step + what.drop_steps] = True

    def action(self, step: int, label: Float[np.ndarray, " 7"]) -> Float[np.ndarray, " 7"]:
        """Return what is executed in place of an expert's action."""
        action = label.copy()
        if self._shifts[step].any():
            action[[0, 1, 2, 5]] += self._shifts[step]
            action[:6] = [*shortened(action[:3], STRIDE_M), *shortened(action[3:6], TURN_RAD)]
        if self._drops[step]:
            action[6] = OPEN
        return action
