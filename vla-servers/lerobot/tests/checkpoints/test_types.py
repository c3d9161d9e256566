"""What each policy type brings along at load: names on the hub, renamed keys, tied weights, other number formats."""

import os
import shutil
from typing import Any

import checkpoints_of_types as types
import pytest
import tiny_backbones
import torch
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.processor import TokenizerProcessorStep
from lerobot.utils import import_utils
from safetensors.torch import load_file, save_file
from small_policies import change_json, rewrite
from transformers import AutoModelForImageTextToText, SmolVLMConfig, SmolVLMForConditionalGeneration

from lerobot_service.checkpoints.checkpoint import load_checkpoint
from lerobot_service.checkpoints.policy_spec import policy_spec
from lerobot_service.config import LeRobotConfig
from vla_server_base.config import ConfigError
from vla_server_base.errors import ModelUnavailable


@pytest.fixture
def a_copy_of(checkpoint, tmp_path):
    """What copies a type's checkpoint to a folder where it may be spoilt."""

    def a_copy(kind: str):
        return shutil.copytree(checkpoint(kind), tmp_path / kind, copy_function=os.link)

    return a_copy


def refusal(folder, **settings) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as caught:
        load_checkpoint(str(folder), LeRobotConfig(**settings), "cpu")
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def rename(folder, field: str, old: str, new: str) -> None:
    """Have a checkpoint call by a name what its test made in a folder."""
    for path in folder.glob("*.json"):
        content = path.read_text()
        if old in content:
            rewrite(path).write_text(content.replace(old, new))
    assert f'"{field}": "{new}"' in "".join(path.read_text() for path in folder.glob("*.json"))


@pytest.mark.parametrize("kind", ["pi0", "pi05", "xvla", "smolvla", "multi_task_dit", "diffusion", "vqbet"])
def test_a_missing_tensor_is_never_random(a_copy_of, kind):
    folder = a_copy_of(kind)
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[len(weights) // 2]
    del weights[name]
    rewrite(folder / "model.safetensors")
    save_file(weights, folder / "model.safetensors")
    assert f"1 missing ({name})" in refusal(folder).message


@pytest.mark.parametrize("kind", ["pi0", "pi05", "xvla"])
def test_a_damaged_file_is_never_a_random_policy(a_copy_of, kind):
    folder = a_copy_of(kind)
    content = (folder / "model.safetensors").read_bytes()
    rewrite(folder / "model.safetensors").write_bytes(content[:-8])
    assert "model.safetensors is damaged" in refusal(folder).message


@pytest.mark.parametrize(
    ("kind", "package", "extra"), [("diffusion", "diffusers", "diffusion"), ("smolvla", "transformers", "smolvla")]
)
def test_a_type_whose_packages_are_missing_is_refused_with_the_extra(checkpoint, monkeypatch, kind, package, extra):
    folder = checkpoint(kind)
    monkeypatch.setitem(import_utils._require_package_cache, package, False)
    error = refusal(folder)
    assert f"policy type '{kind}' needs packages that are not installed: '{package}'" in error.message
    assert f"'lerobot[{extra}]'" in error.message


@pytest.mark.parametrize(
    ("kind", "reads_text", "window"),
    [("diffusion", False, 2), ("vqbet", False, 5), ("multi_task_dit", True, 2), ("pi05", True, 1), ("xvla", True, 1)],
)
def test_whether_a_policy_reads_text_follows_from_its_preprocessor(checkpoint, kind, reads_text, window):
    spec = policy_spec(load_checkpoint(str(checkpoint(kind)), LeRobotConfig(), "cpu"), kind)
    assert (spec.takes_instruction, spec.window) == (reads_text, window)


@pytest.mark.parametrize(("kind", "does"), [("pi0", True), ("pi05", True), ("smolvla", True), ("xvla", False)])
def test_real_time_chunking_is_what_the_policy_says(checkpoint, kind, does):
    loaded = load_checkpoint(str(checkpoint(kind)), LeRobotConfig(), "cpu")
    assert policy_spec(loaded, kind).supports_rtc == does


class TestNamesOnTheHub:
    def test_a_tokenizer_is_found_by_the_setting(self, a_copy_of):
        folder, name = a_copy_of("pi0"), "google/paligemma-3b-pt-224"
        tokenizer = next(iter(folder.parent.glob("pi0/tokenizer")))
        moved = shutil.move(tokenizer, folder.parent / "paligemma")
        change_json(
            folder / "policy_preprocessor.json",
            lambda content: [
                step["config"].update(tokenizer_name=name)
                for step in content["steps"]
                if step["registry_name"] == "tokenizer_processor"
            ],
        )
        error = refusal(folder)
        assert name in error.message
        assert f'LEROBOT_FILES="{name}=FOLDER", a folder with tokenizer.json' in error.hint

        loaded = load_checkpoint(str(folder), LeRobotConfig(files=f"{name}={moved}"), "cpu")

        assert loaded.config.type == "pi0"

    def test_a_tokenizer_in_the_checkpoint_is_taken(self, a_copy_of):
        folder = a_copy_of("xvla")
        for path in (folder / "tokenizer").iterdir():
            path.rename(folder / path.name)
        for path in ("config.json", "policy_preprocessor.json"):
            content = (folder / path).read_text()
            old = next(part for part in content.split('"') if part.endswith("/tokenizer"))
            rewrite(folder / path).write_text(content.replace(old, "facebook/bart-large"))
        loaded = load_checkpoint(str(folder), LeRobotConfig(), "cpu")
        steps = [step.get_config() for step in loaded.preprocessor.steps if isinstance(step, TokenizerProcessorStep)]
        assert [step["tokenizer_name"] for step in steps] == [str(folder)]

    def test_a_folder_that_lacks_files_is_told_which(self, a_copy_of, tmp_path):
        folder = a_copy_of("smolvla")
        (tmp_path / "vlm").mkdir()
        (tmp_path / "vlm" / "config.json").write_text("{}")
        change_json(folder / "config.json", lambda content: content.update(vlm_model_name="lab/vlm"))
        message = refusal(folder, files=f"lab/vlm={tmp_path / 'vlm'}").message
        assert "vlm_model_name 'lab/vlm' must be in" in message
        assert "has no processor_config.json or preprocessor_config.json" in message

    def test_a_setting_that_names_no_folder_is_refused(self, act_checkpoint):
        with pytest.raises(ConfigError, match="LEROBOT_FILES has 'lab/vlm', which is not name=folder"):
            load_checkpoint(str(act_checkpoint), LeRobotConfig(files="lab/vlm"), "cpu")


def test_a_smolvla_that_began_from_the_hubs_weights_is_lerobots_own(tmp_path):
    """Its VLM is bfloat16, which a SmolVLA built without the hub's weights is not."""
    vlm = tiny_backbones.smolvlm(tmp_path / "vlm")
    torch.manual_seed(0)
    SmolVLMForConditionalGeneration(SmolVLMConfig.from_pretrained(vlm)).bfloat16().save_pretrained(vlm)
    assert AutoModelForImageTextToText.from_pretrained(vlm).dtype is torch.bfloat16
    settings: dict[str, Any] = {**types.features(types.SIZES), **types.CHUNKS_OF_8}
    config = SmolVLAConfig(
        **settings,
        vlm_model_name=str(vlm),
        load_vlm_weights=True,
        num_vlm_layers=2,
        resize_imgs_with_padding=(64, 64),
    )
    folder = types.write(config, tmp_path / "smolvla")
    theirs = SmolVLAPolicy.from_pretrained(folder)
    (vlm / "model.safetensors").unlink()

    ours = load_checkpoint(str(folder), LeRobotConfig(), "cpu").policy

    assert {name: each.dtype for name, each in ours.state_dict().items()} == {
        name: each.dtype for name, each in theirs.state_dict().items()
    }
    assert all(torch.equal(each, ours.state_dict()[name]) for name, each in theirs.state_dict().items())
