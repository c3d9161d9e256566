"""OctoSmallAdapter: what every adapter keeps, and what is Octo's own."""

import itertools
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from octo_service.adapter import OctoSmallAdapter, noise_key
from octo_service.model.prediction import draw_noise
from vla_server_base.contract import Observation, Task, Window
from vla_server_base.control_loop import ObservationWindow
from vla_server_base.errors import ModelUnavailable
from vla_server_base.testing.contract import AdapterContract, a_window, an_input


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> OctoSmallAdapter:
    loaded = OctoSmallAdapter()
    loaded.load_model("random://octo-tiny", "cpu", tmp_path_factory.mktemp("cache"))
    return loaded


class TestOctoSmallAdapter(AdapterContract):
    tolerance = 1e-5


def test_seed_k_is_the_references_key_k(adapter: OctoSmallAdapter):
    policy_input = an_input(adapter, seed=3)
    chunks = adapter.predict([policy_input])[0]
    readout = adapter._remembered.read_out(policy_input.observation, policy_input.task)
    noise = draw_noise(adapter.model.head, jax.random.PRNGKey(3), (1, adapter.spec.window))
    np.testing.assert_allclose(chunks, adapter.model.predict_chunk(readout, noise), rtol=0, atol=1e-6)
    expected = adapter.model.sample_actions(policy_input.observation, policy_input.task, rng=jax.random.PRNGKey(3))
    # One is computed step by step, the other at once; what differs by rounding there is amplified by the head.
    np.testing.assert_allclose(chunks, expected, rtol=0, atol=2e-4)


def test_every_step_and_sample_has_noise_of_its_own():
    keys = {tuple(np.asarray(noise_key(5, step, sample))) for step in range(20) for sample in range(20)}
    assert len(keys) == 400
    assert len({tuple(np.asarray(noise_key(seed, 0, 0))) for seed in (0, 1, 2**31, 2**32 - 1)}) == 4


def test_more_samples_than_one_group_are_all_different(adapter: OctoSmallAdapter):
    chunks = adapter.predict([an_input(adapter, num_samples=11)])[0]
    assert len(np.unique(chunks[:, 0, 0])) == 11


def test_the_first_step_of_an_episode_is_padded_as_the_reference_pads_it(adapter: OctoSmallAdapter):
    image = np.full((224, 224, 3), 9, np.uint8)
    window = ObservationWindow(2).append(Observation(images={"primary": image}))
    arrays = adapter.preprocess_observation(window)
    assert arrays["image_primary"].shape == (1, 2, 256, 256, 3)
    assert arrays["timestep_pad_mask"].tolist() == [[False, True]]


def test_only_a_goal_image_means_the_instruction_is_masked(adapter: OctoSmallAdapter):
    goal = {"primary": np.full((64, 64, 3), 200, np.uint8)}
    masks = adapter.preprocess_instruction(Task(goal_images=goal))["pad_mask_dict"]
    assert (masks["language_instruction"].tolist(), masks["image_primary"].tolist()) == ([False], [True])


def test_answering_compiles_nothing_new_after_the_warm_up(adapter: OctoSmallAdapter):
    for policy_input in itertools.chain(adapter.warm_up_inputs(), adapter.rarer_inputs()):
        adapter.predict([policy_input])
    parts = [vars(part).values() for part in (adapter.model.stepwise, adapter.model._text_encoder)]
    programs = [part for part in itertools.chain(*parts) if hasattr(part, "_cache_size")]
    programs.append(adapter.model._predict_chunk)
    compiled = [program._cache_size() for program in programs]
    for cameras in (["primary"], ["wrist"], ["primary", "wrist"]):
        for num_seen in (1, 2, 3):
            for num_samples in (1, 2, 9):
                adapter.predict([an_input(adapter, cameras=cameras, num_seen=num_seen, num_samples=num_samples)])
        for order in (1, -1):  # a camera goes, and one comes back
            mixed = [a_window(adapter, picture_seed=5, cameras=some) for some in (cameras, None)][::order]
            window = Window(
                observations=tuple(each.observations[-1] for each in mixed), timestep_pad_mask=np.ones(2, bool)
            )
            adapter.predict([replace(an_input(adapter), observation=adapter.preprocess_observation(window))])
    assert [program._cache_size() for program in programs] == compiled
    assert len(programs) > 6


@pytest.mark.parametrize(
    ("model_id", "says"),
    [
        ("random://octo-huge", "random://octo-small-1.5"),
        ("no/such/folder", "there is no folder"),
    ],
)
def test_a_model_that_cannot_be_had_says_what_to_do(model_id: str, says: str, tmp_path: Path):
    with pytest.raises(ModelUnavailable, match=says):
        OctoSmallAdapter().load_model(model_id, "cpu", tmp_path)


def test_a_gpu_that_is_not_there_is_named(tmp_path: Path):
    if jax.default_backend() == "gpu":
        pytest.skip("this machine has a GPU")
    with pytest.raises(ModelUnavailable, match="VLA_DEVICE"):
        OctoSmallAdapter().load_model("random://octo-tiny", "gpu", tmp_path)
