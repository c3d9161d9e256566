"""Which actions a demonstration executes: the expert's with disturbances, or at first a policy's (DAgger)."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float

from vla_server_base.contract import Image, Observation, Task
from vla_server_base.episodes.loop import EpisodePolicy
from vla_server_base.errors import RequestError
from vla_server_base.scenes.messages import choose_proprio
from vla_server_base.sessions.action_chunking import ObservationWindow, RecedingHorizon
from vla_server_base.tabletop.experts import OPEN, STRIDE_M, TURN_RAD, shortened
from vla_server_base.tabletop.trials import Trial


@dataclass(frozen=True, kw_only=True)
class Disturbances:
    """Random errors in the executed actions, from which demonstrations show how to recover.

    At each step, with probability `nudge_rate`, a nudge begins: for `nudge_steps` steps, the motion is off by up to
    `nudge_m` along each axis and `nudge_rad` of yaw. With probability `drop_rate` the gripper opens for `drop_steps`
    steps.
    """

    nudge_rate: float = 0.06
    nudge_steps: int = 3
    nudge_m: float = 0.03
    nudge_rad: float = 0.15
    drop_rate: float = 0.02
    drop_steps: int = 2


@dataclass(frozen=True, kw_only=True)
class RollInPolicy:
    """A policy that acts first, so that the expert labels the states that the policy reaches (DAgger roll-in).

    It does so with probability `share`, for a number of steps drawn from 0 to `max_steps` inclusive; None lets it act
    to the end. Of each of its chunks, `execution_horizon` actions are executed.
    """

    policy: EpisodePolicy
    share: float = 1.0
    max_steps: int | None = 25
    execution_horizon: int = 1

    def num_steps(self, trial: Trial, max_steps: int) -> int:
        """Return the number of steps, at most `max_steps`, for which the policy acts in a trial."""
        random = np.random.default_rng([trial.seed, 2, zlib.crc32(trial.task.name.encode())])
        acts, longest = random.random() < self.share, max_steps if self.max_steps is None else self.max_steps
        num_steps = longest if self.max_steps is None else int(random.integers(longest + 1))
        return num_steps if acts else 0


class BehaviorPolicy:
    """Chooses the executed actions of one trial: the roll-in policy's at first, then the disturbed expert's."""

    def __init__(self, trial: Trial, disturbances: Disturbances | None, roll_in: RollInPolicy | None, max_steps: int):
        self._num_roll_in_steps = roll_in.num_steps(trial, max_steps) if roll_in else 0
        self._roll_in = _RollIn(roll_in, trial) if roll_in else None
        self._disturbed = _DisturbedExpert(disturbances, trial.seed, max_steps)

    def expert_acts(self, step: int) -> bool:
        """Say whether the expert's action is executed at a step."""
        return step >= self._num_roll_in_steps

    async def action(
        self,
        step: int,
        label: Float[np.ndarray, " 7"],
        images: Mapping[str, Image] | None,
        measured: Mapping[str, float] = MappingProxyType({}),
    ) -> Float[np.ndarray, " 7"]:
        """Return the action to execute; `label` is the expert's, `measured` are the arm's numbers by name.

        Raises:
            RequestError: the roll-in policy requires proprio that the arm does not measure.
        """
        if self._roll_in is None or self.expert_acts(step):
            return self._disturbed.action(step, label)
        assert images is not None, "a roll-in policy needs a view"
        return await self._roll_in.action(step, images, measured)


class _RollIn:
    """A roll-in policy in one episode; it sees what `episodes.play` shows it."""

    def __init__(self, roll_in: RollInPolicy, trial: Trial):
        self._policy, self._seed = roll_in.policy, trial.seed
        self._task = Task(instruction=trial.instruction)
        self._history = ObservationWindow(roll_in.policy.window)
        self._horizon = roll_in.execution_horizon
        self._plan = RecedingHorizon(self._horizon)

    async def action(
        self, step: int, images: Mapping[str, Image], measured: Mapping[str, float]
    ) -> Float[np.ndarray, " 7"]:
        """Return the action for what is seen and measured now.

        Raises:
            RequestError: the policy's chunks are shorter than `execution_horizon`, or it requires other proprio.
        """
        policy_images = {name: image for name, image in images.items() if name in self._policy.cameras}
        proprio = choose_proprio(self._policy.spec, tuple(measured)).of(np.array(list(measured.values())))
        window = self._history.append(Observation(images=policy_images, proprio=proprio))
        if not self._plan.num_queued:
            chunk = await self._policy.predict(window, self._task, self._seed, step)
            if len(chunk) < self._horizon:
                raise RequestError(
                    f"execution_horizon: expected at most {len(chunk)}, the length of the policy's chunks,"
                    f" got {self._horizon}",
                    hint="execute fewer actions of each chunk: --policy-horizon",
                )
            self._plan.put(chunk)
        return self._plan.next_action()


class _DisturbedExpert:
    """The expert's actions with disturbances, which are drawn in advance and depend on the arguments only."""

    def __init__(self, disturbances: Disturbances | None, seed: int, num_steps: int):
        self._shifts: Float[np.ndarray, "steps 4"] = np.zeros((num_steps, 4))
        self._drops: Bool[np.ndarray, " steps"] = np.zeros(num_steps, bool)
        if disturbances is not None:
            self._draw(disturbances, np.random.default_rng([seed, 1]))

    def action(self, step: int, label: Float[np.ndarray, " 7"]) -> Float[np.ndarray, " 7"]:
        """Return the action that is executed instead of an expert's action."""
        action = label.copy()
        if self._shifts[step].any():
            action[[0, 1, 2, 5]] += self._shifts[step]
            action[:6] = [*shortened(action[:3], STRIDE_M), *shortened(action[3:6], TURN_RAD)]
        if self._drops[step]:
            action[6] = OPEN
        return action

    def _draw(self, disturbances: Disturbances, random: np.random.Generator) -> None:
        bounds = np.array([disturbances.nudge_m] * 3 + [disturbances.nudge_rad])
        for step in range(len(self._drops)):
            shift, (nudged, dropped) = random.uniform(-bounds, bounds), random.random(2)
            if nudged < disturbances.nudge_rate:
                self._shifts[step : step + disturbances.nudge_steps] = shift
            if dropped < disturbances.drop_rate:
                self._drops[step : step + disturbances.drop_steps] = True
