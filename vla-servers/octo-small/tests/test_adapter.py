"""OctoSmallAdapter: what every adapter keeps, and what is Octo's own."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from small_octo import checkpoint_with_two_cameras_and_proprio

from octo_service.adapter import OctoSmallAdapter
from octo_service.checkpoints.checkpoint import Checkpoint
from octo_service.checkpoints.saving import save_checkpoint
from octo_service.config import OctoConfig
from octo_service.model.prediction import draw_noise
from octo_service.parity.inputs import image
from vla_server_base.contract import Observation, Task, Window
from vla_server_base.errors import ModelUnavailable, RequestError, UnknownName
from vla_server_base.sessions.action_chunking import ObservationWindow
from vla_server_base.testing.contract import AdapterContract
from vla_server_base.testing.policy_inputs import a_window, an_input


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
    readout = adapter._inference_cache.read_out(policy_input.observation, policy_input.task)
    noise = draw_noise(adapter.model.head, jax.random.PRNGKey(3), (1, adapter.spec.window))
    np.testing.assert_allclose(chunks, adapter.model.predict_chunk(readout, noise), rtol=0, atol=1e-6)
    expected = adapter.model.sample_actions(policy_input.observation, policy_input.task, rng=jax.random.PRNGKey(3))
    # One is computed step by step, the other at once; what differs by rounding there is amplified by the head.
    np.testing.assert_allclose(chunks, expected, rtol=0, atol=2e-4)


def test_the_number_of_samples_changes_no_bit_of_the_first(adapter: OctoSmallAdapter):
    one = adapter.predict([an_input(adapter)])[0][0]
    for num_samples in (2, 8, 9, 11):
        np.testing.assert_array_equal(adapter.predict([an_input(adapter, num_samples=num_samples)])[0][0], one)


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
    for policy_input in itertools.chain(adapter.warm_up_inputs(), adapter.background_warm_up_inputs()):
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
            mixed = [a_window(adapter, image_seed=5, cameras=some) for some in (cameras, None)][::order]
            window = Window(
                observations=tuple(each.observations[-1] for each in mixed), timestep_pad_mask=np.ones(2, bool)
            )
            adapter.predict([replace(an_input(adapter), observation=adapter.preprocess_observation(window))])
    assert [program._cache_size() for program in programs] == compiled
    assert len(programs) > 6


def test_a_window_of_another_length_is_a_setting(tmp_path: Path):
    adapter = OctoSmallAdapter(OctoConfig(window=3))
    adapter.load_model("random://octo-tiny", "cpu", tmp_path)
    assert adapter.spec.window == 3
    assert adapter.predict([an_input(adapter, num_seen=3)])[0].shape == (1, 4, 7)
    with pytest.raises(ModelUnavailable, match="OCTO_WINDOW=11: this checkpoint attends to 10 observations at most"):
        OctoSmallAdapter(OctoConfig(window=11)).load_model("random://octo-tiny", "cpu", tmp_path)


def test_the_references_centre_crop_is_of_the_primary_camera_alone(goldens: Path, tmp_path: Path):
    recorded = np.load(goldens / "octo" / "golden_resize.npz")
    keys = [key.split("/") for key in recorded if key.startswith("wrapper_uint8/")]
    adapter = OctoSmallAdapter(OctoConfig(center_crop=True))
    adapter.load_model("random://octo-tiny", "cpu", tmp_path)
    for method, size, camera in keys:
        height, width = map(int, size.split("x"))
        seen = {name: image("resize", height, width) for name in ("primary", "wrist")}
        window = ObservationWindow(2).append(Observation(images=seen))
        found = adapter.preprocess_observation(window)[f"image_{camera}"][0, -1]
        assert np.abs(found.astype(int) - recorded[f"{method}/{size}/{camera}"]).max() <= 1
    assert {camera for _, _, camera in keys} == {"primary", "wrist"}


def checkpoint_of_two_widths(proprio: dict[str, dict[str, np.ndarray]]) -> Checkpoint:
    """Return a checkpoint of two datasets, one of which has five action dimensions, each with proprio of its own."""
    checkpoint = checkpoint_with_two_cameras_and_proprio(window=2)
    action = checkpoint.dataset_statistics["random"]["action"]
    five = {name: values[:5] for name, values in action.items()}
    statistics = {"fewer": {"action": five}, "whole": {"action": action}}
    return replace(
        checkpoint, dataset_statistics={name: {**statistics[name], "proprio": proprio[name]} for name in statistics}
    )


@pytest.fixture(scope="module")
def two_datasets(tmp_path_factory: pytest.TempPathFactory) -> OctoSmallAdapter:
    folder = tmp_path_factory.mktemp("two")
    mean = {"fewer": np.zeros(4), "whole": np.full(4, 10.0)}
    proprio = {name: {"mean": mean[name], "std": np.full(4, 0.5)} for name in mean}
    save_checkpoint(folder / "model", checkpoint_of_two_widths(proprio))
    adapter = OctoSmallAdapter(OctoConfig(dataset="whole"))
    with pytest.MonkeyPatch.context() as patched:  # bytes stand for T5's vocabulary, which is not ours to ship
        patched.setattr("octo_service.checkpoints.hub.fetch_tokenizer", lambda name: None)
        adapter.load_model(str(folder / "model"), "cpu", folder / "cache")
    return adapter


def test_proprio_is_normalized_by_the_dataset_in_use(two_datasets: OctoSmallAdapter):
    pictures = {"primary": np.zeros((32, 32, 3), np.uint8)}
    window = ObservationWindow(2).append(Observation(images=pictures, proprio=np.full(4, 11.0)))
    for dataset, expected in (("fewer", 22.0), ("whole", 2.0), (None, 2.0)):
        found = two_datasets.preprocess_observation(window, dataset)["proprio"][0, -1]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    far = ObservationWindow(2).append(Observation(images=pictures, proprio=np.array([0, 1e8, 0, 0])))
    with pytest.raises(
        RequestError, match=r"proprio.1: got 1e\+08, but the dataset has a mean of 10 and a standard deviation of 0.5"
    ):
        two_datasets.preprocess_observation(far, "whole")


def test_a_dataset_of_fewer_dimensions_has_names_of_its_own_and_no_gripper(two_datasets: OctoSmallAdapter):
    spec = two_datasets.spec
    assert (spec.action_dim, spec.action_formats, list(spec.other_actions)) == (7, ("standard", "ee_delta"), ["fewer"])
    policy_input = replace(an_input(two_datasets), dataset="fewer")
    (chunks,) = two_datasets.predict([policy_input])
    assert chunks.shape == (1, 4, 5)
    action = two_datasets.postprocess_action(chunks[0], "fewer", "raw")
    assert action.action_names == tuple(f"action_{number}" for number in range(5))
    assert (action.action.shape, action.actions.shape) == ((5,), (4, 5))
    with pytest.raises(UnknownName, match="'standard' is not known"):
        two_datasets.postprocess_action(chunks[0], "fewer", "standard")


def test_a_dataset_of_fewer_dimensions_is_denoised_as_in_a_script(two_datasets: OctoSmallAdapter):
    policy_input = replace(an_input(two_datasets), dataset="fewer")
    action = two_datasets.postprocess_action(two_datasets.predict([policy_input])[0][0], "fewer", "raw")
    expected = two_datasets.model.sample_actions(
        policy_input.observation,
        policy_input.task,
        two_datasets.model.dataset_statistics["fewer"]["action"],
        rng=jax.random.PRNGKey(7),
    )
    np.testing.assert_allclose(action.actions, expected[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("model_id", "says"),
    [
        ("random://octo-huge", "random://octo-small-1.5"),
        ("no/such/folder", "there is no folder"),
    ],
)
def test_a_model_that_cannot_be_had_says_what_to_do(model_id: str, says: str, tmp_path: Path):
    with pytest.raises(ModelUnavailable) as unavailable:
        OctoSmallAdapter().load_model(model_id, "cpu", tmp_path)
    assert re.search(says, unavailable.value.as_sentence())


def test_a_gpu_that_is_not_there_is_named(tmp_path: Path):
    if jax.default_backend() == "gpu":
        pytest.skip("this machine has a GPU")
    with pytest.raises(ModelUnavailable) as unavailable:
        OctoSmallAdapter().load_model("random://octo-tiny", "gpu", tmp_path)
    assert "VLA_DEVICE" in str(unavailable.value.hint)
