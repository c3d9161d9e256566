"""A policy in a gymnasium environment; asks for the extra `gymnasium`."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, SupportsFloat

import gymnasium
import numpy as np

from vla_client.policy import Policy, first_action


class PolicyWrapper(gymnasium.Wrapper):
    """An environment in which a policy acts whenever it is stepped without an action.

    `observe` makes what the policy is sent of what the environment observes: pictures by camera name, or the first
    camera's alone; `proprio`; and an `instruction` where that is not the same in all episodes. `info["policy"]` is the
    policy's whole answer. A policy's `deadline_ms` counts from when the environment was last reset or stepped: after
    Late, step with an action that holds still, which brings a new picture.

    Raises:
        ValueError: the environment does not take the policy's actions.

    >>> env = PolicyWrapper(gymnasium.make("..."), policy, "pick up the red cube",
    ...                     observe=lambda seen: {"primary": seen["pixels"]["top"], "proprio": seen["agent_pos"]})
    >>> observation, info = env.reset(seed=0)
    >>> observation, reward, terminated, truncated, info = env.step()
    """

    def __init__(
        self,
        env: gymnasium.Env,
        policy: Policy,
        instruction: str | None = None,
        observe: Callable[[Any], Any] = lambda observation: observation,
    ):
        super().__init__(env)
        taken, given = env.action_space.shape, (policy.metadata.action_dim,)
        if taken != given:
            raise ValueError(
                f"the environment takes actions of shape {taken}, the policy's have {given}: "
                f"{', '.join(policy.metadata.action_names)}; wrap it in gymnasium.wrappers.TransformAction"
            )
        self.policy = policy
        self._observe = observe
        self._said = {} if instruction is None else {"instruction": instruction}
        self._observation: Any = None
        self._observed_at = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode of both the environment and the policy, with the same seed if there is one."""
        self.policy.reset(seed)
        self._observation, info = self.env.reset(seed=seed, options=options)
        self._observed_at = time.monotonic()
        return self._observation, info

    def step(self, action: np.ndarray | None = None) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step, with the policy's action if there is no other.

        Raises:
            Late, PolicyError, SessionLost, Unreachable, ObservationError: see `Policy.infer`; the environment is as it
                was.
        """
        answer = None
        if action is None:
            seen = self._observe(self._observation)
            if not isinstance(seen, Mapping):
                seen = {self.policy.metadata.camera_names[0]: seen}
            answer = self.policy.infer({"obs_time": self._observed_at, **self._said, **seen})
            action = first_action(answer).astype(self.env.action_space.dtype)
        self._observation, reward, terminated, truncated, info = self.env.step(action)
        self._observed_at = time.monotonic()
        return self._observation, reward, terminated, truncated, info if answer is None else {**info, "policy": answer}


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """How an episode went; `info` is its last step's."""

    num_steps: int
    total_reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]


def rollout(env: PolicyWrapper, max_steps: int, seed: int | None = None) -> EpisodeResult:
    """Run one episode of at least one step, at most until `max_steps`.

    Raises:
        Late, PolicyError, SessionLost, Unreachable, ObservationError: see `Policy.infer`.
    """
    env.reset(seed=seed)
    total_reward, num_steps = 0.0, 0
    while True:
        _, reward, terminated, truncated, info = env.step()
        total_reward += float(reward)
        num_steps += 1
        if terminated or truncated or num_steps >= max_steps:
            return EpisodeResult(
                num_steps=num_steps,
                total_reward=total_reward,
                terminated=bool(terminated),
                truncated=bool(truncated),
                info=info,
            )
