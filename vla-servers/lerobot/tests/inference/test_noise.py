"""Every way in which PyTorch draws is seeded row by row, and alone equals `torch.manual_seed`."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lerobot_service.inference.noise import SeededNoise, UnsplittableDraw, generator_of

NUM_ROWS = 3
PROBABILITIES = torch.linspace(0.1, 0.9, 20)
DRAWS: dict[str, Callable[[int], Tensor]] = {
    "randn": lambda rows: torch.randn(rows, 4, 5),
    "randn of a size": lambda rows: torch.randn(size=(rows, 20), dtype=torch.float64),
    "rand": lambda rows: torch.rand((rows, 20)),
    "randn_like": lambda rows: torch.randn_like(torch.zeros(rows, 20)),
    "rand_like": lambda rows: torch.rand_like(torch.zeros(rows, 20)),
    "randint": lambda rows: torch.randint(3, 900, (rows, 20)),
    "randint below": lambda rows: torch.randint(900, (rows, 20)),
    "randint of a size": lambda rows: torch.randint(high=900, size=(rows, 20)),
    "randint_like": lambda rows: torch.randint_like(torch.zeros(rows, 20), 2, 900),
    "normal of numbers": lambda rows: torch.normal(mean=0.5, std=2.0, size=(rows, 20)),
    "normal of tensors": lambda rows: torch.normal(torch.ones(rows, 20), torch.full((rows, 20), 2.0)),
    "normal_": lambda rows: torch.empty(rows, 20).normal_(0.5, 2),
    "uniform_": lambda rows: torch.empty(rows, 20).uniform_(-1, 1),
    "exponential_": lambda rows: torch.empty(rows, 20).exponential_(),
    "random_": lambda rows: torch.empty(rows, 20).random_(900),
    "bernoulli": lambda rows: torch.bernoulli(PROBABILITIES.expand(rows, 20)),
    "bernoulli_": lambda rows: torch.empty(rows, 20).bernoulli_(0.5),
    "multinomial": lambda rows: torch.multinomial(PROBABILITIES.expand(rows, 20), 9),
    "multinomial of more rows": lambda rows: torch.multinomial(PROBABILITIES.expand(rows * 5, 20), 1),
    "poisson": lambda rows: torch.poisson(PROBABILITIES.expand(rows, 20)),
    "Normal": lambda rows: torch.distributions.Normal(torch.zeros(rows, 20), 1.0).sample(),
    "Beta": lambda rows: torch.distributions.Beta(torch.full((rows, 20), 1.5), torch.ones(rows, 20)).sample(),
    "Categorical": lambda rows: torch.distributions.Categorical(PROBABILITIES.expand(rows, 20)).sample(),
}


@pytest.fixture(params=sorted(DRAWS))
def draw(request) -> Callable[[int], Tensor]:
    return DRAWS[request.param]


def test_a_row_alone_gets_what_torch_draws_after_manual_seed(draw):
    torch.manual_seed(7)
    expected = draw(1)
    state = torch.get_rng_state()
    with SeededNoise([generator_of(seed=7, step=0, sample=0)]) as noise:
        drawn = draw(1)
    assert torch.equal(drawn, expected)
    assert noise.num_draws >= 1
    assert torch.equal(torch.get_rng_state(), state)


def test_a_row_of_a_batch_gets_what_it_gets_alone(draw):
    def generators() -> list[torch.Generator]:
        return [generator_of(seed=row, step=row, sample=0) for row in range(NUM_ROWS)]

    alone = []
    for generator in generators():
        with SeededNoise([generator]):
            alone.append(draw(1))
    with SeededNoise(generators()):
        together = draw(NUM_ROWS)
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("shape", [(), (1, 20), (4, 20)])
def test_a_draw_that_belongs_to_no_row_is_refused(shape):
    generators = [generator_of(row, 0, 0) for row in range(NUM_ROWS)]
    with SeededNoise(generators), pytest.raises(UnsplittableDraw, match="3 rows"):
        torch.randn(shape)


def test_a_permutation_is_only_drawn_alone():
    torch.manual_seed(7)
    expected = torch.randperm(20)
    with SeededNoise([generator_of(7, 0, 0)]):
        assert torch.equal(torch.randperm(20), expected)
    with SeededNoise([generator_of(row, 0, 0) for row in range(NUM_ROWS)]), pytest.raises(UnsplittableDraw):
        torch.randperm(21)


def test_a_generator_that_is_given_is_used():
    given = torch.Generator().manual_seed(3)
    with SeededNoise([generator_of(7, 0, 0)]) as noise:
        drawn = torch.randn(5, generator=given)
    assert torch.equal(drawn, torch.randn(5, generator=torch.Generator().manual_seed(3)))
    assert noise.num_draws == 0


def test_each_seed_step_and_sample_has_its_own_noise():
    keys = [(seed, step, sample) for seed in range(3) for step in range(3) for sample in range(3)]
    assert len({tuple(torch.randn(4, generator=generator_of(*key)).tolist()) for key in keys}) == len(keys)
