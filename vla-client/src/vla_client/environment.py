"""A policy in a gymnasium environment; needs the extra `gymnasium`."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional, SupportsFloat

import gymnasium
import numpy as np

from vla_client.policy import Policy, first_action


class PolicyWrapper(gymnasium.Wrapper):
    """An environment in which the policy acts whenever `step` gets no action.

    `observe` turns an observation of the environment into one of the policy: images by camera name, or only the first
    camera's image; `proprio`; and an `instruction` if it differs between episodes. `info["policy"]` is the policy's
    whole answer. A policy's `deadline_ms` counts from the last reset or step of the environment: after
    DeadlineExceeded, step with an action that holds still, which returns a new image.

    Raises:
        ValueError: the environment's actions do not have the shape of the policy's.

    >>> env = PolicyWrapper(gymnasium.make("..."), policy, "pick up the red cube",
    ...                     observe=lambda obs: {"primary": obs["pixels"]["top"], "proprio": obs["agent_pos"]})
    >>> observation, info = env.reset(seed=0)
    >>> observation, reward, terminated, truncated, info = env.step()
    """

    def __init__(
        self,
        env: gymnasium.Env,
        policy: Policy,
        instruction: Optional[str] = None,
        observe: Callable[[Any], Any] = lambda observation: observation,
    ):
        super().__init__(env)
        expected_shape, action_shape = env.action_space.shape, (policy.metadata.action_dim,)
        if expected_shape != action_shape:
            raise ValueError(
                f"the environment expects actions of shape {expected_shape}, the policy's have {action_shape}: "
                f"{', '.join(policy.metadata.action_names)}; wrap it in gymnasium.wrappers.TransformAction"
            )
        self.policy = policy
        self._observe = observe
        self._instruction_field = {} if instruction is None else {"instruction": instruction}
        self._observation: Any = None
        self._observed_at = 0.0

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[dict[str, Any]] = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode of the environment and of the policy, both with the seed if there is one."""
        self.policy.reset(seed)
        self._observation, info = self.env.reset(seed=seed, options=options)
        self._observed_at = time.monotonic()
        return self._observation, info

    def step(self, action: Optional[np.ndarray] = None) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment, with the policy's action if `action` is None.

        Raises:
            DeadlineExceeded, PolicyError, SessionLost, Unauthorized, Unreachable, ObservationError: see `Policy.infer`;
                the environment has not been stepped.
        """
        answer = None
        if action is None:
            observation = self._observe(self._observation)
            if not isinstance(observation, Mapping):
                observation = {self.policy.metadata.camera_names[0]: observation}
            answer = self.policy.infer({"obs_time": self._observed_at, **self._instruction_field, **observation})
            action = first_action(answer).astype(self.env.action_space.dtype)
        self._observation, reward, terminated, truncated, info = self.env.step(action)
        self._observed_at = time.monotonic()
        return self._observation, reward, terminated, truncated, info if answer is None else {**info, "policy": answer}


@dataclass(frozen=True)
class EpisodeResult:
    """The outcome of an episode; `info` is that of the last step."""

    num_steps: int
    total_reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]


def rollout(env: PolicyWrapper, max_steps: int, seed: Optional[int] = None) -> EpisodeResult:
    """Run one episode of at least one step and at most `max_steps`.

    Raises:
        DeadlineExceeded, PolicyError, SessionLost, Unauthorized, Unreachable, ObservationError: see `Policy.infer`.
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
