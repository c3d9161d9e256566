"""Each fault of a checkpoint is refused with one sentence and a way on; none is served in silence."""

import json
import os

import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.processor import DeviceProcessorStep
from safetensors.torch import load_file, save_file
from small_policies import a_copy, change_json, features, rewrite, save_checkpoint, small_act

from lerobot_service.checkpoints.checkpoint import load_checkpoint
from lerobot_service.config import LeRobotConfig
from vla_server_base.errors import ModelOutOfReach, ModelUnavailable

NORMALIZER = "policy_preprocessor_step_3_normalizer_processor.safetensors"
UNNORMALIZER = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"


@pytest.fixture
def checkpoint(act_checkpoint, tmp_path):
    """A copy of the small ACT, to be spoilt."""
    return a_copy(act_checkpoint, tmp_path / "spoilt")


def refusal(folder, **settings) -> ModelUnavailable:
    """Load a checkpoint that must be refused; return the error, whose message is one sentence."""
    with pytest.raises(ModelUnavailable) as caught:
        load_checkpoint(str(folder), LeRobotConfig(**settings), "cpu")
    error = caught.value
    assert not isinstance(error, ModelOutOfReach)
    assert error.message
    assert "\n" not in error.message
    assert error.hint
    return error


def change_weights(folder, change) -> None:
    change_tensors(folder / "model.safetensors", change)


def change_tensors(path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    rewrite(path)
    save_file(tensors, path)


def change_step(folder, pipeline: str, name: str, **settings) -> None:
    def change(content):
        step = next(step for step in content["steps"] if step["registry_name"] == name)
        step["config"].update(settings)

    change_json(folder / f"policy_{pipeline}.json", change)


@pytest.mark.parametrize("model", ["~nobody-here/act", "a" * 5000])
def test_a_folder_that_cannot_be_read_is_refused(model):
    assert "cannot be read" in refusal(model).message


class TestWeights:
    def test_a_missing_tensor_is_named(self, checkpoint):
        change_weights(checkpoint, lambda weights: weights.pop("model.action_head.bias"))
        assert "1 missing (model.action_head.bias)" in refusal(checkpoint).message

    def test_many_missing_tensors_are_counted(self, checkpoint):
        change_weights(checkpoint, lambda weights: [weights.pop(name) for name in list(weights) if "decoder" in name])
        message = refusal(checkpoint).message
        assert "missing (model.decoder" in message
        assert message.count("model.decoder") == 5

    def test_an_unexpected_tensor_is_named(self, checkpoint):
        change_weights(checkpoint, lambda weights: weights.update({"model.other.weight": torch.zeros(2)}))
        assert "1 unexpected (model.other.weight)" in refusal(checkpoint).message

    def test_a_tensor_of_another_shape_is_named(self, checkpoint):
        change_weights(checkpoint, lambda weights: weights.update({"model.action_head.bias": torch.zeros(7)}))
        assert "model.action_head.bias is [7], not [6]" in refusal(checkpoint).message

    def test_weights_that_are_not_finite_are_named(self, checkpoint):
        change_weights(checkpoint, lambda weights: weights["model.action_head.bias"].fill_(float("nan")))
        assert "1 not finite (model.action_head.bias)" in refusal(checkpoint).message

    def test_a_truncated_file_is_refused(self, checkpoint):
        content = (checkpoint / "model.safetensors").read_bytes()
        rewrite(checkpoint / "model.safetensors").write_bytes(content[:-100])
        assert "model.safetensors is damaged" in refusal(checkpoint).message

    def test_a_file_of_another_format_is_refused(self, checkpoint):
        rewrite(checkpoint / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
        assert "model.safetensors is damaged" in refusal(checkpoint).message

    def test_a_missing_file_is_refused(self, checkpoint):
        (checkpoint / "model.safetensors").unlink()
        assert "no model.safetensors" in refusal(checkpoint).message

    def test_pickled_weights_are_never_read(self, checkpoint):
        (checkpoint / "model.safetensors").unlink()
        (checkpoint / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
        assert "only pickled weights (pytorch_model.bin)" in refusal(checkpoint).message

    def test_a_missing_shard_is_named(self, checkpoint):
        (checkpoint / "model.safetensors").rename(checkpoint / "model-00001-of-00002.safetensors")
        names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
        index = {"weight_map": dict(zip("ab", names, strict=True))}
        (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
        message = refusal(checkpoint).message
        assert f"2 shards, of which {names[1]} are missing" in message


class TestConfig:
    def test_weights_to_start_from_are_never_fetched(self, checkpoint):
        weights = "ResNet18_Weights.IMAGENET1K_V1"
        change_json(checkpoint / "config.json", lambda content: content.update(pretrained_backbone_weights=weights))
        config = load_checkpoint(str(checkpoint), LeRobotConfig(), "cpu").config
        assert isinstance(config, ACTConfig)
        assert config.pretrained_backbone_weights is None

    def test_an_unknown_field_is_refused_and_may_be_ignored(self, checkpoint):
        change_json(checkpoint / "config.json", lambda content: content.update(new_field=3))
        error = refusal(checkpoint)
        assert "does not know: new_field" in error.message
        assert 'LEROBOT_IGNORE_FIELDS="new_field"' in error.hint

        loaded = load_checkpoint(str(checkpoint), LeRobotConfig(ignore_fields="new_field"), "cpu")

        assert loaded.notes == ("config.json's new_field=3 is ignored",)

    def test_a_field_of_another_kind_is_refused(self, checkpoint):
        change_json(checkpoint / "config.json", lambda content: content.update(chunk_size="many"))
        assert "chunk_size" in refusal(checkpoint).message

    @pytest.mark.parametrize("policy_type", ["tdmpc", "gaussian_actor", "lingbot_va", "groot", "pi0_fast", "wall_x"])
    def test_a_type_that_is_not_served_is_refused_with_the_reason(self, checkpoint, policy_type):
        change_json(checkpoint / "config.json", lambda content: content.update(type=policy_type))
        assert f"policy type '{policy_type}' is not served: it" in refusal(checkpoint).message

    def test_an_unknown_type_is_refused_with_the_known_ones(self, checkpoint):
        change_json(checkpoint / "config.json", lambda content: content.update(type="new_policy"))
        error = refusal(checkpoint)
        assert "'new_policy' is not in LeRobot" in error.message
        assert "act, diffusion" in error.hint

    def test_a_config_without_a_type_is_refused(self, checkpoint):
        change_json(checkpoint / "config.json", lambda content: content.pop("type"))
        assert "names no policy type" in refusal(checkpoint).message

    def test_a_config_that_is_no_json_is_refused(self, checkpoint):
        rewrite(checkpoint / "config.json").write_text("{")
        assert "config.json cannot be read" in refusal(checkpoint).message

    def test_an_adapter_is_refused(self, checkpoint):
        change_json(checkpoint / "config.json", lambda content: content.update(use_peft=True))
        assert "adapter" in refusal(checkpoint).message

    def test_a_folder_without_a_checkpoint_is_refused(self, tmp_path):
        assert "is not a checkpoint of LeRobot" in refusal(tmp_path).message
        assert "there is no folder" in refusal(tmp_path / "nowhere").message
        assert "no model is named" in refusal("").message


class TestFeatures:
    @pytest.mark.parametrize(
        ("name", "feature", "sentence"),
        [
            ("observation.environment_state", PolicyFeature(FeatureType.ENV, (5,)), "the state of a simulation"),
            ("observation.velocity", PolicyFeature(FeatureType.STATE, (5,)), "beside the one state"),
            ("observation.images.depth", PolicyFeature(FeatureType.VISUAL, (1, 64, 64)), "depth is not served"),
            ("next.reward", PolicyFeature(FeatureType.REWARD, (1,)), "which no client can give"),
        ],
    )
    def test_an_input_that_no_client_can_give_is_refused(self, checkpoint, name, feature, sentence):
        entry = {"type": feature.type.value, "shape": list(feature.shape)}
        change_json(checkpoint / "config.json", lambda content: content["input_features"].update({name: entry}))
        message = refusal(checkpoint).message
        assert sentence in message
        assert f"'{name}'" in message

    def test_two_cameras_of_one_name_are_refused(self, checkpoint):
        entry = {"type": "VISUAL", "shape": [3, 64, 64]}
        change_json(
            checkpoint / "config.json", lambda content: content["input_features"].update({"observation.top": entry})
        )
        assert "two cameras of the policy are called 'top'" in refusal(checkpoint).message


class TestProcessors:
    def test_a_checkpoint_of_an_older_lerobot_is_told_the_migration(self, checkpoint):
        (checkpoint / "policy_preprocessor.json").unlink()
        (checkpoint / "policy_postprocessor.json").unlink()
        error = refusal(checkpoint)
        assert "no policy_preprocessor.json and no policy_postprocessor.json" in error.message
        assert "python -m lerobot.processor.migrate_policy_normalization --pretrained-path" in error.hint

    def test_processors_of_a_gpu_run_on_this_device(self, checkpoint):
        change_step(checkpoint, "preprocessor", "device_processor", device="cuda")
        loaded = load_checkpoint(str(checkpoint), LeRobotConfig(), "cpu")
        moves = [step.get_config() for step in loaded.preprocessor.steps if isinstance(step, DeviceProcessorStep)]
        assert moves == [{"device": "cpu", "float_dtype": None}]

    def test_a_step_that_names_code_is_refused(self, checkpoint):
        step = {"class": "lerobot_policy_other.steps.Step", "config": {}}
        change_json(checkpoint / "policy_preprocessor.json", lambda content: content["steps"].append(step))
        assert "names the class lerobot_policy_other.steps.Step" in refusal(checkpoint).message

    def test_a_step_of_another_policy_is_refused(self, checkpoint):
        step = {"registry_name": "reward_classifier_processor", "config": {}}
        change_json(checkpoint / "policy_preprocessor.json", lambda content: content["steps"].append(step))
        assert "has the step 'reward_classifier_processor'" in refusal(checkpoint).message

    def test_a_missing_file_of_statistics_is_named(self, checkpoint):
        (checkpoint / NORMALIZER).unlink()
        assert NORMALIZER in refusal(checkpoint).message

    def test_names_of_cameras_are_the_policys_own(self, checkpoint):
        renaming = {"observation.images.left": "observation.images.top"}
        change_step(checkpoint, "preprocessor", "rename_observations_processor", rename_map=renaming)
        loaded = load_checkpoint(str(checkpoint), LeRobotConfig(), "cpu")
        assert loaded.preprocessor.steps[0].get_config() == {"rename_map": {}}
        assert "observation.images.left" in loaded.notes[0]

    def test_relative_actions_that_nothing_makes_absolute_are_refused(self, checkpoint):
        step = {"registry_name": "relative_actions_processor", "config": {"enabled": True}}
        change_json(checkpoint / "policy_preprocessor.json", lambda content: content["steps"].append(step))
        assert (
            "1 steps of the preprocessor make actions relative and 0 of the postprocessor"
            in refusal(checkpoint).message
        )


class TestStatistics:
    def test_an_input_without_statistics_is_refused(self, checkpoint):
        change_tensors(
            checkpoint / NORMALIZER, lambda tensors: [tensors.pop(n) for n in list(tensors) if ".state" in n]
        )
        assert "no mean and std of 'observation.state'" in refusal(checkpoint).message

    def test_actions_without_statistics_are_refused(self, checkpoint):
        change_tensors(checkpoint / UNNORMALIZER, lambda tensors: tensors.pop("action.std"))
        assert "the postprocessor has no mean and std of 'action'" in refusal(checkpoint).message

    def test_a_feature_that_the_normalizer_does_not_know_is_refused(self, checkpoint):
        def change(content):
            content["steps"][3]["config"]["features"].pop("observation.state")

        change_json(checkpoint / "policy_preprocessor.json", change)
        assert "normalizes 'observation.state' by nothing, and config.json says MEAN_STD" in refusal(checkpoint).message

    def test_another_way_to_normalize_is_refused(self, checkpoint):
        change_step(
            checkpoint,
            "postprocessor",
            "unnormalizer_processor",
            norm_map={"VISUAL": "MEAN_STD", "STATE": "MEAN_STD", "ACTION": "MIN_MAX"},
        )
        assert "normalizes 'action' by MIN_MAX, and config.json says MEAN_STD" in refusal(checkpoint).message

    def test_statistics_of_another_length_are_refused(self, checkpoint):
        change_tensors(checkpoint / UNNORMALIZER, lambda tensors: tensors.update({"action.mean": torch.zeros(1)}))
        assert "mean of 'action' has the shape [1], not [6]" in refusal(checkpoint).message

    def test_statistics_that_are_not_finite_are_refused(self, checkpoint):
        change_tensors(checkpoint / UNNORMALIZER, lambda tensors: tensors["action.std"].fill_(float("inf")))
        assert "std of 'action' is not finite" in refusal(checkpoint).message

    def test_an_input_that_never_changed_is_refused(self, checkpoint):
        change_tensors(checkpoint / NORMALIZER, lambda tensors: tensors["observation.state.std"][2:3].zero_())
        assert "'observation.state' have no spread in numbers [2]" in refusal(checkpoint).message

    def test_an_action_that_never_changed_is_taken(self, checkpoint):
        change_tensors(checkpoint / UNNORMALIZER, lambda tensors: tensors["action.std"][2:3].zero_())
        assert load_checkpoint(str(checkpoint), LeRobotConfig(), "cpu").policy


def test_a_state_of_another_size_than_its_statistics_is_refused(tmp_path, act_checkpoint):
    folder = save_checkpoint(small_act(input_features=features("top", state_dim=7)), tmp_path / "seven")
    for name in (NORMALIZER, "policy_preprocessor.json"):
        os.replace(a_copy(act_checkpoint, tmp_path / name.replace(".", "_")) / name, folder / name)
    assert "mean of 'observation.state' has the shape [6], not [7]" in refusal(folder).message
