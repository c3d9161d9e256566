"""The noise of a request's samples: the same for the same seed, step and sample, and another for any other."""

import numpy as np

from octo_service.inference.noise_samples import SAMPLE_GROUP, NoiseSamples, noise_key, stack_samples
from octo_service.model.heads import ContinuousHead, DiffusionHead, DiscreteHead
from vla_server_base.contract import PolicyInput

SIZES = {"readout_key": "readout_action", "action_horizon": 2, "action_dim": 3}
DIFFUSION = DiffusionHead(**SIZES, diffusion_steps=4)


def a_request(seed: int = 0, step: int = 0, num_samples: int = 1, window: int = 2) -> PolicyInput:
    observation = {"timestep_pad_mask": np.ones((1, window), bool)}
    return PolicyInput(observation=observation, task={}, seed=seed, step=step, num_samples=num_samples)


def test_every_step_and_sample_has_noise_of_its_own():
    keys = {tuple(np.asarray(noise_key(5, step, sample))) for step in range(20) for sample in range(20)}
    assert len(keys) == 400
    assert len({tuple(np.asarray(noise_key(seed, 0, 0))) for seed in (0, 1, 2**31, 2**32 - 1)}) == 4


def test_a_request_gets_noise_for_each_of_its_samples():
    noises = NoiseSamples(DIFFUSION).of(a_request(num_samples=3))
    assert [(start.shape, steps.shape) for start, steps in noises] == [((1, 2, 6), (4, 1, 2, 6))] * 3
    assert len({start.tobytes() for start, _ in noises}) == 3


def test_more_samples_leave_the_first_as_it_is():
    (alone,), (first, *_) = (NoiseSamples(DIFFUSION).of(a_request(num_samples=count)) for count in (1, 3))
    np.testing.assert_array_equal(alone[0], first[0])
    np.testing.assert_array_equal(alone[1], first[1])


def test_noise_is_drawn_once_for_requests_that_share_seed_step_and_window():
    samples = NoiseSamples(DIFFUSION)
    noise = samples.draw(a_request(), sample=0)
    assert samples.draw(a_request(), sample=0) is noise
    for other in (a_request(seed=1), a_request(step=1), a_request(window=1)):
        assert samples.draw(other, sample=0) is not noise


def test_a_head_that_regresses_has_no_noise():
    assert NoiseSamples(ContinuousHead(**SIZES)).of(a_request(num_samples=2)) == [None, None]


def test_samples_are_stacked_and_the_last_is_repeated_up_to_a_group():
    noises = NoiseSamples(DIFFUSION).of(a_request(num_samples=3))
    starts, steps = stack_samples(noises)
    assert starts.shape == (SAMPLE_GROUP, 1, 2, 6)
    assert steps.shape == (4, SAMPLE_GROUP, 1, 2, 6)
    for index in range(SAMPLE_GROUP):
        np.testing.assert_array_equal(starts[index], noises[min(index, 2)][0])
        np.testing.assert_array_equal(steps[:, index], noises[min(index, 2)][1])


def test_the_noise_of_discrete_heads_is_one_array():
    noises = NoiseSamples(DiscreteHead(**SIZES, vocab_size=8)).of(a_request(num_samples=2))
    assert stack_samples(noises).shape == (SAMPLE_GROUP, *np.shape(noises[0]))
