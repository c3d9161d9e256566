"""OctoModel: what a script that was written for the reference meets."""

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np
import pytest
from vocabulary import train_vocabulary

from octo_service.checkpoints.checkpoint import load_checkpoint
from octo_service.errors import CheckpointError, InputError, ModelConfigError
from octo_service.model import OctoModel
from octo_service.parity.goldens import recorded_tokenizer, tiny_model

TEXT = "pick up the fork"


@pytest.fixture(scope="module")
def model(goldens: Path) -> OctoModel:
    return tiny_model(goldens)


def an_observation(**changes: np.ndarray) -> dict[str, np.ndarray]:
    observation = {
        "image_primary": np.full((1, 2, 256, 256, 3), 100, np.uint8),
        "timestep_pad_mask": np.ones((1, 2), bool),
    }
    return {**observation, **changes}


def sampled(model: OctoModel, observation: dict, **options) -> np.ndarray:
    task = model.create_tasks(texts=[TEXT])
    return np.asarray(model.sample_actions(observation, task, rng=jax.random.PRNGKey(0), **options))


def test_every_group_of_tokens_can_be_read(model: OctoModel):
    observation = an_observation()
    task = model.create_tasks(texts=[TEXT])
    outputs = model.run_transformer(observation, task, observation["timestep_pad_mask"])
    sizes = {name: group.tokens.shape[-2] for name, group in outputs.items()}
    expected = {"task_language": 16, "obs_primary": 256, "obs_task_language": 16, "readout_action": 1}
    assert sizes == {**expected, "task": 16, "obs": 272}
    readout = model.read_out(observation, task, observation["timestep_pad_mask"])
    np.testing.assert_allclose(outputs["readout_action"].tokens, readout.tokens, atol=2e-6)


def test_a_task_has_what_the_references_has(model: OctoModel):
    by_text = model.create_tasks(texts=[TEXT, ""])
    assert by_text["image_primary"].shape == (2, 256, 256, 3)
    assert by_text["pad_mask_dict"]["language_instruction"].tolist() == [True, True]
    assert by_text["pad_mask_dict"]["image_primary"].tolist() == [False, False]
    by_goal = model.create_tasks(goals={"image_primary": np.zeros((1, 256, 256, 3), np.uint8)})
    assert set(by_goal) == {"image_primary", "language_instruction", "pad_mask_dict"}
    assert by_goal["pad_mask_dict"]["language_instruction"].tolist() == [False]


def test_what_the_model_does_not_read_does_not_matter(model: OctoModel):
    extra = an_observation(timestep=np.ones((1, 2)), something=np.ones((1, 2, 5)))
    np.testing.assert_array_equal(sampled(model, an_observation()), sampled(model, extra))


def test_noise_may_be_given_and_a_newer_kind_of_key_draws_the_same(model: OctoModel):
    task = model.create_tasks(texts=[TEXT])
    old, new = (
        np.asarray(model.sample_actions(an_observation(), task, rng=rng))
        for rng in (jax.random.PRNGKey(7), jax.random.key(7))
    )
    np.testing.assert_array_equal(old, new)
    zeros = (np.zeros((1, 2, 28), np.float32), np.zeros((20, 1, 2, 28), np.float32))
    given = np.asarray(model.sample_actions(an_observation(), task, noise=zeros))
    assert given.shape == (1, 4, 7)
    assert not np.array_equal(given, old)


def test_an_observation_of_version_1_0_may_call_its_mask_pad_mask(model: OctoModel):
    observation = an_observation()
    observation["pad_mask"] = observation.pop("timestep_pad_mask")
    np.testing.assert_array_equal(sampled(model, observation), sampled(model, an_observation()))


@pytest.mark.parametrize(
    ("observation", "says"),
    [
        (an_observation(image_primary=np.zeros((1, 2, 224, 224, 3), np.uint8)), "takes \\(256, 256, 3\\)"),
        (an_observation(timestep_pad_mask=np.ones((1, 3), bool)), "timestep_pad_mask is \\(1, 3\\)"),
        ({"image_front": np.zeros((1, 2, 256, 256, 3)), "timestep_pad_mask": np.ones((1, 2))}, "image_primary"),
        ({"image_primary": np.zeros((1, 2, 256, 256, 3))}, "timestep_pad_mask is missing"),
        (
            {
                "image_primary": np.zeros((1, 11, 256, 256, 3), np.uint8),
                "timestep_pad_mask": np.ones((1, 11), bool),
            },
            "takes up to 10",
        ),
    ],
)
def test_an_observation_that_does_not_fit_says_what_does(model: OctoModel, observation: dict, says: str):
    with pytest.raises(InputError, match=says):
        sampled(model, observation)


def test_a_task_that_does_not_fit_says_what_does(model: OctoModel):
    with pytest.raises(InputError, match="texts="):
        model.create_tasks()
    with pytest.raises(InputError, match="must be a list"):
        model.create_tasks(texts=TEXT)
    with pytest.raises(InputError, match="one batch size"):
        model.create_tasks(texts=[TEXT], goals={"image_primary": np.zeros((2, 256, 256, 3), np.uint8)})
    with pytest.raises(InputError, match="takes \\(256, 256, 3\\)"):
        model.create_tasks(goals={"image_primary": np.zeros((1, 64, 64, 3), np.uint8)})


def test_sampling_without_a_key_and_training_are_refused(model: OctoModel):
    task = model.create_tasks(texts=[TEXT])
    with pytest.raises(InputError, match="PRNGKey"):
        model.sample_actions(an_observation(), task)
    with pytest.raises(InputError, match="train=True"):
        model.sample_actions(an_observation(), task, rng=jax.random.PRNGKey(0), train=True)
    with pytest.raises(InputError, match="token ids"):
        model.embed_text(np.full((1, 16), 40000), np.ones((1, 16)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda params: params.pop("heads_action/diffusion_model/time_preprocess/kernel"), "time_preprocess/kernel"),
        (lambda params: params.update({"heads_action/extra/bias": np.zeros(3)}), "heads_action/extra/bias"),
        (
            lambda params: params.update({"octo_transformer/obs_primary_projection/bias": np.zeros(3)}),
            "obs_primary_projection/bias",
        ),
        (
            lambda params: params.pop(
                "octo_transformer/task_tokenizers_language/hf_model/encoder/block/1/layer/0/layer_norm/weight"
            ),
            "block/1/layer/0/layer_norm/weight",
        ),
    ],
)
def test_a_parameter_missing_extra_or_of_another_shape_is_named(model: OctoModel, change, says: str):
    params = dict(model.checkpoint.params)
    change(params)
    with pytest.raises(CheckpointError, match=says):
        OctoModel(dataclasses.replace(model.checkpoint, params=params), model.tokenizer)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("heads", "action", "name"), "UNetDDPMActionHead", "available: ContinuousActionHead"),
        (("heads", "action", "kwargs", "magic"), 1, "magic"),
        (("observation_tokenizers", "primary", "kwargs", "encoder", "name"), "ViTHuge", "SmallStem16"),
        (("transformer_kwargs", "add_position_embedding"), True, "add_position_embedding"),
    ],
)
def test_a_config_that_asks_for_the_unknown_is_named(model: OctoModel, path: tuple, value, says: str):
    config = jax.tree_util.tree_map(lambda leaf: leaf, model.config)
    place = config["model"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ModelConfigError, match=says):
        OctoModel(dataclasses.replace(model.checkpoint, config=config), model.tokenizer)


def test_what_is_saved_loads_again_and_acts_the_same(model: OctoModel, tmp_path: Path, goldens: Path):
    model.save_pretrained(5, tmp_path / "saved")
    vocabulary = tmp_path / "spiece.model"
    vocabulary.write_bytes(train_vocabulary())
    again = OctoModel.load_pretrained(tmp_path / "saved", tokenizer=vocabulary)
    again.tokenizer = recorded_tokenizer(goldens)
    np.testing.assert_array_equal(sampled(model, an_observation()), sampled(again, an_observation()))
    assert again.checkpoint.step == 5


def test_both_forms_on_disk_give_one_model(model: OctoModel, goldens: Path):
    other = tiny_model(goldens, "tiny_ckpt_ocdbt")
    np.testing.assert_array_equal(sampled(model, an_observation()), sampled(other, an_observation()))


def test_random_weights_depend_on_their_seed_alone_and_end_unsaturated():
    first, again, other = (
        OctoModel.load_pretrained(f"random://octo-tiny{seed}") for seed in ("", "?seed=0", "?seed=1")
    )
    actions = sampled(first, an_observation(), sample_shape=(8,))
    np.testing.assert_array_equal(actions, sampled(again, an_observation(), sample_shape=(8,)))
    assert not np.array_equal(actions, sampled(other, an_observation(), sample_shape=(8,)))
    assert (np.abs(actions) < 4.9).mean() > 0.8
    with pytest.raises(ModelConfigError, match=r"random://octo-base-1\.5"):
        OctoModel.load_pretrained("random://octo-huge")


def test_the_spec_for_people_names_cameras_and_sizes(model: OctoModel):
    spec = model.get_pretty_spec()
    assert "image_primary: (batch, window, 256, 256, 3) uint8" in spec
    assert "language_instruction: text" in spec


def test_params_are_nested_by_the_released_names(model: OctoModel):
    kernel = model.params["octo_transformer"]["obs_primary_projection"]["kernel"]
    assert kernel.shape == (64, 64)


def test_the_reference_s_class_and_ours_share_their_public_names():
    names = {
        "load_pretrained",
        "create_tasks",
        "run_transformer",
        "sample_actions",
        "save_pretrained",
        "get_pretty_spec",
    }
    assert names | {"config", "params", "example_batch", "dataset_statistics"} <= set(dir(OctoModel))


def test_the_text_encoder_reads_its_weights_where_the_file_is_mapped(model: OctoModel, tmp_path: Path):
    if jax.default_backend() != "cpu":
        pytest.skip("another device has a memory of its own")
    model.save_pretrained(5, tmp_path / "saved")
    mapped = OctoModel(load_checkpoint(tmp_path / "saved", cache_dir=tmp_path / "cache"), model.tokenizer)
    assert mapped._text_encoder is not None
    kernels = {path: leaf for path, leaf in mapped._text_encoder._leaves.items() if path.endswith("kernel")}
    places = {path: mapped.checkpoint.params[path].ctypes.data for path in kernels}
    assert {path: leaf.unsafe_buffer_pointer() for path, leaf in kernels.items()} == places
    assert len(places) >= 6
    tokens = model.create_tasks(texts=[TEXT])["language_instruction"]
    np.testing.assert_array_equal(mapped.embed_text(**tokens), model.embed_text(**tokens))


def test_a_normalization_that_is_not_known_is_refused(model: OctoModel):
    with pytest.raises(InputError, match="'percentiles' is not known; pass 'normal' or 'bounds'"):
        sampled(model, an_observation(), normalization_type="percentiles")


def test_statistics_of_more_dimensions_than_the_heads_are_refused(model: OctoModel):
    eight = {"mean": np.zeros(8), "std": np.ones(8)}
    with pytest.raises(InputError, match="the statistics are of 8 numbers, the head predicts 7"):
        sampled(model, an_observation(), unnormalization_statistics=eight)


def a_sight() -> dict[str, np.ndarray]:
    """Return an observation of a picture with contrasts, of which no norm makes rounding large."""
    picture = np.random.default_rng(0).integers(0, 256, (1, 2, 256, 256, 3), np.uint8)
    return an_observation(image_primary=picture)


class TestInsideAProgram:
    """As robot scripts compile it; the compiler rounds otherwise there, and the head amplifies that."""

    ATOL = 2e-3

    @pytest.fixture
    def task(self, model: OctoModel) -> dict:
        return model.create_tasks(texts=[TEXT])

    @pytest.fixture
    def statistics(self, model: OctoModel) -> dict:
        return model.dataset_statistics["bridge_dataset"]["action"]

    def test_its_method_may_be_compiled_before_it_was_ever_called(self, goldens: Path):
        fresh = tiny_model(goldens)
        task = fresh.create_tasks(texts=[TEXT])
        compiled = jax.jit(fresh.sample_actions)
        found = [np.asarray(compiled(a_sight(), task, rng=jax.random.PRNGKey(0))) for _ in range(2)]
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_allclose(found[0], sampled(fresh, a_sight()), atol=self.ATOL)

    def test_statistics_may_be_an_argument_or_bound(self, model: OctoModel, task: dict, statistics: dict):
        five = {name: values[:5] for name, values in statistics.items()}
        for given in (statistics, five):
            eager = sampled(model, a_sight(), unnormalization_statistics=given)
            bound = jax.jit(functools.partial(model.sample_actions, unnormalization_statistics=given))
            rng = jax.random.PRNGKey(0)
            for found in (
                bound(a_sight(), task, rng=rng),
                jax.jit(model.sample_actions)(a_sight(), task, given, rng=rng),
            ):
                np.testing.assert_allclose(found, eager, atol=self.ATOL)

    def test_the_model_may_be_an_argument(self, model: OctoModel, task: dict, statistics: dict):
        @functools.partial(jax.jit, static_argnames=("argmax",))
        def policy(pretrained_model: OctoModel, observations: dict, tasks: dict, rng: jax.Array, argmax: bool):
            observations = jax.tree_util.tree_map(lambda array: array[None], observations)
            own = pretrained_model.dataset_statistics["bridge_dataset"]["action"]
            actions = pretrained_model.sample_actions(observations, tasks, own, rng=rng, argmax=argmax)
            return actions[0]

        single = jax.tree_util.tree_map(lambda array: array[0], a_sight())
        found = policy(model, single, task, jax.random.PRNGKey(0), argmax=False)
        expected = sampled(model, a_sight(), unnormalization_statistics=statistics)
        np.testing.assert_allclose(found, expected[0], atol=self.ATOL)

    def test_several_samples_and_embeddings_are_the_same(self, model: OctoModel, task: dict):
        compiled = jax.jit(model.sample_actions, static_argnames=("sample_shape", "train", "argmax"))
        found = compiled(a_sight(), task, rng=jax.random.PRNGKey(0), sample_shape=(2,))
        np.testing.assert_allclose(found, sampled(model, a_sight(), sample_shape=(2,)), atol=self.ATOL)
        mask = a_sight()["timestep_pad_mask"]
        outputs = jax.jit(model.run_transformer)(a_sight(), task, mask)
        expected = model.run_transformer(a_sight(), task, mask)
        np.testing.assert_allclose(outputs["readout_action"].tokens, expected["readout_action"].tokens, atol=5e-5)

    def test_its_arrays_may_be_mapped_over(self, model: OctoModel):
        doubled = jax.tree_util.tree_map(lambda leaf: leaf, model)
        np.testing.assert_allclose(sampled(doubled, a_sight()), sampled(model, a_sight()), atol=self.ATOL)
