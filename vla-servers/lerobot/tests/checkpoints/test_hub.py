"""The real huggingface_hub client against a small hub on localhost, with and without faults."""

import socket
from pathlib import Path

import huggingface_hub.constants
import pytest

from lerobot_service.checkpoints.checkpoint import load_checkpoint
from lerobot_service.checkpoints.hub import Hub
from lerobot_service.config import LeRobotConfig
from vla_server_base.errors import ModelOutOfReach, ModelUnavailable
from vla_server_base.testing.small_hub import SmallHub

MODEL = "hf://lab/act"


@pytest.fixture(autouse=True)
def client_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tester's own settings of the client out of these tests."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def small_hub():
    with SmallHub() as small_hub:
        yield small_hub


def files_of(checkpoint: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in checkpoint.iterdir()}


def test_a_model_of_the_hub_loads_and_is_cached(small_hub, act_checkpoint, tmp_path):
    others = {"README.md": b"ACT", "optimizer_state.safetensors": b"-", "pytorch_model.bin": b"-"}
    commit = small_hub.add("lab/act", {**files_of(act_checkpoint), **others})
    hub = Hub(endpoint=small_hub.url, cache_dir=tmp_path)

    loaded = load_checkpoint(MODEL, LeRobotConfig(), "cpu", hub)

    assert loaded.revision == commit
    assert not {path.name for path in loaded.folder.iterdir()} & set(others)
    small_hub.requests.clear()
    assert load_checkpoint(MODEL, LeRobotConfig(), "cpu", hub).hash == loaded.hash
    assert small_hub.files_sent() == []


def test_a_hub_out_of_reach_does_not_matter_where_the_model_is_cached(act_checkpoint, tmp_path):
    with SmallHub() as small_hub:
        small_hub.add("lab/act", files_of(act_checkpoint))
        hub = Hub(endpoint=small_hub.url, cache_dir=tmp_path)
        first = load_checkpoint(MODEL, LeRobotConfig(), "cpu", hub)
    assert load_checkpoint(MODEL, LeRobotConfig(), "cpu", hub).hash == first.hash


def test_a_hub_out_of_reach_is_worth_another_try(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        hub = Hub(endpoint=f"http://127.0.0.1:{probe.getsockname()[1]}", cache_dir=tmp_path)
    with pytest.raises(ModelOutOfReach, match="gave no valid answer"):
        load_checkpoint(MODEL, LeRobotConfig(), "cpu", hub)


@pytest.mark.parametrize(
    ("model_id", "sentence"),
    [
        ("hf://lab/other", "has no model lab/other that you can read"),
        ("hf://lab/act@v9", "has no revision 'v9' of lab/act"),
        ("hf://lab/gated", "hf://lab/gated is gated"),
        ("hf://lab", "names no repository"),
        ("hf://lab/empty", "is not a checkpoint of LeRobot"),
    ],
)
def test_what_the_hub_refuses_is_told_and_not_tried_again(small_hub, tmp_path, model_id, sentence):
    small_hub.add("lab/act", {"config.json": b"{}"})
    small_hub.add("lab/gated", {"config.json": b"{}"})
    small_hub.add("lab/empty", {"README.md": b"", "notes.json": b"{}"})
    small_hub.gated["lab/gated"] = "token"
    with pytest.raises(ModelUnavailable, match=sentence) as caught:
        load_checkpoint(model_id, LeRobotConfig(), "cpu", Hub(endpoint=small_hub.url, cache_dir=tmp_path))
    assert not isinstance(caught.value, ModelOutOfReach)
    assert caught.value.hint


def test_offline_a_model_that_is_not_cached_is_refused(small_hub, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnavailable, match="HF_HUB_OFFLINE is set and hf://lab/act is not completely cached"):
        load_checkpoint(MODEL, LeRobotConfig(), "cpu", Hub(endpoint=small_hub.url, cache_dir=tmp_path))
