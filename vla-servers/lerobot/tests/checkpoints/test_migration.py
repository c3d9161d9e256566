"""A checkpoint of an older LeRobot, whose statistics are among its weights, is served once LeRobot has migrated it."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled
from policy_requests import an_input, seen_by
from safetensors.torch import load_file, save_file
from small_policies import a_copy, rewrite

from lerobot_service.adapter import LeRobotAdapter
from lerobot_service.checkpoints.checkpoint import load_checkpoint
from lerobot_service.config import LeRobotConfig
from vla_server_base.errors import ModelUnavailable


# Of the template of LeRobot's model card.
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_what_the_hint_says_makes_a_checkpoint_that_answers_the_same(act_checkpoint, tmp_path, monkeypatch):
    old, new = an_old_act(act_checkpoint, tmp_path / "old"), tmp_path / "new"
    with pytest.raises(ModelUnavailable) as refused:
        load_checkpoint(str(old), LeRobotConfig(), "cpu")
    _, module, arguments = re.split(r"python -m (\S+) ", refused.value.hint.partition(" (")[0])
    monkeypatch.setattr(sys, "argv", [module, *arguments.replace("NEW_FOLDER", str(new)).split()])
    with pytest.raises(OfflineModeIsEnabled):
        runpy.run_module(module, run_name="__main__")

    assert np.array_equal(a_chunk(act_checkpoint), a_chunk(new))


def an_old_act(checkpoint: Path, folder: Path) -> Path:
    """Write a checkpoint as LeRobot did before it had processors: their statistics are buffers of the policy."""
    a_copy(checkpoint, folder)
    weights = load_file(folder / "model.safetensors")
    for step, buffers in (("normalizer", "normalize_inputs"), ("unnormalizer", "unnormalize_outputs")):
        (statistics,) = folder.glob(f"*_{step}_processor.safetensors")
        for name, values in load_file(statistics).items():
            feature, _, kind = name.rpartition(".")
            if kind in ("mean", "std") and (feature == "action") == (step == "unnormalizer"):
                weights[f"{buffers}.buffer_{feature.replace('.', '_')}.{kind}"] = values
    save_file(weights, rewrite(folder / "model.safetensors"))
    for path in folder.glob("*processor*"):
        path.unlink()
    return folder


def a_chunk(folder: Path) -> np.ndarray:
    adapter = LeRobotAdapter()
    adapter.load_model(str(folder), "cpu", Path("unused"))
    return adapter.predict([an_input(adapter, [seen_by(adapter.spec)])])[0]
