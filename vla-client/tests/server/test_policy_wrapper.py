"""A policy in a gymnasium environment, against a live server."""

import time

import gymnasium
import numpy as np
import pytest

from vla_client import DeadlineExceeded, Policy, PolicyError
from vla_client.environment import PolicyWrapper, rollout
from vla_server_base.testing.echo import noise

DIM = 7


class Dimming(gymnasium.Env):
    """An image that is brighter from step to step, until the fifth; the reward is the action's last number."""

    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gymnasium.spaces.Box(-10, 10, (DIM,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.num_steps = 0
        return self.image(), {}

    def step(self, action):
        assert action in self.action_space
        self.num_steps += 1
        return self.image(), action[6], self.num_steps == 5, False, {"is_success": True}

    def image(self) -> np.ndarray:
        return np.full((8, 8, 3), 51 * self.num_steps, np.uint8)


@pytest.fixture
def policy(url):
    with Policy(url, seed=3) as policy:
        yield policy


def test_a_step_without_an_action_is_the_policys(policy):
    env = PolicyWrapper(Dimming(), policy, "go")
    env.reset()
    rewards, brightness = zip(*[taken(env.step()) for _ in range(3)], strict=True)
    np.testing.assert_allclose(rewards, [noise(3, step) for step in range(3)], rtol=1e-6)
    np.testing.assert_allclose(brightness, [0, 0.2, 0.4])


def taken(result) -> tuple[float, float]:
    _, reward, _, _, info = result
    return reward, info["policy"]["actions"][0, 0]


def test_a_step_with_an_action_leaves_the_policy_alone(policy):
    env = PolicyWrapper(Dimming(), policy, "go")
    env.reset()
    *_, info = env.step(np.ones(DIM, np.float32))
    assert "policy" not in info
    assert policy.sequence == -1


def test_a_seed_is_the_environments_and_the_policys(policy):
    env = PolicyWrapper(Dimming(), policy, "go")
    episodes = [rollout(env, max_steps=3, seed=seed) for seed in (5, 6, 5)]
    assert policy.seed == 5
    assert episodes[0].total_reward == episodes[2].total_reward != episodes[1].total_reward


def test_an_episode_ends_with_the_environment_or_after_so_many_steps(policy):
    env = PolicyWrapper(Dimming(), policy, "go")
    ended, stopped = rollout(env, max_steps=10), rollout(env, max_steps=3)
    assert (ended.num_steps, ended.terminated, ended.truncated) == (5, True, False)
    assert (stopped.num_steps, stopped.terminated, stopped.truncated) == (3, False, False)
    assert ended.info["is_success"]


def test_the_policy_sees_what_it_is_shown(policy):
    def observe(image):
        return {"primary": image, "wrist": 255 - image, "proprio": [1, 2, 3], "instruction": "as told"}

    env = PolicyWrapper(Dimming(), policy, observe=observe)
    env.reset()
    *_, info = env.step()
    np.testing.assert_allclose(info["policy"]["actions"][0, [0, 3, 5]], [0, 1, 1 + 6])


def test_a_deadline_counts_from_when_the_environment_was_observed(url):
    with Policy(url, deadline_ms=300) as policy:
        env = PolicyWrapper(Dimming(), policy, "go")
        env.reset()
        time.sleep(0.4)
        with pytest.raises(DeadlineExceeded, match="the observation was not sent"):
            env.step()
        assert env.get_wrapper_attr("num_steps") == 0


def test_what_the_server_refuses_leaves_the_environment_as_it_was(policy):
    env = PolicyWrapper(Dimming(), policy)
    env.reset()
    with pytest.raises(PolicyError, match="there is no instruction"):
        env.step()
    assert env.get_wrapper_attr("num_steps") == 0


def test_an_environment_that_takes_other_actions_is_refused(policy):
    env = gymnasium.wrappers.FlattenObservation(Dimming())
    env.action_space = gymnasium.spaces.Box(-1, 1, (4,))
    with pytest.raises(ValueError, match=r"expects actions of shape \(4,\), the policy's have \(7,\): dx, dy"):
        PolicyWrapper(env, policy, "go")
