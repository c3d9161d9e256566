"""Checkpoints that several tests use, made once per session."""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

# PyTorch and the hub's client read them when they are imported: no test asks another machine for anything.
os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")

import torch
from checkpoints_of_types import CHECKPOINTS
from small_policies import save_checkpoint, small_act

from lerobot_service.adapter import LeRobotAdapter

pytest.register_assert_rewrite("vla_server_base.testing.contract")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def act_checkpoint(tmp_path_factory):
    """A small ACT of two cameras, as lerobot-train would save it; not to be changed."""
    return save_checkpoint(small_act(), tmp_path_factory.mktemp("act"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Callable[[str], Path]:
    """What writes a checkpoint of a policy type, or finds the one already written; not to be changed."""
    written: dict[str, Path] = {}

    def checkpoint_of(kind: str) -> Path:
        if kind not in written:
            written[kind] = CHECKPOINTS[kind](tmp_path_factory.mktemp(kind))
        return written[kind]

    return checkpoint_of


@pytest.fixture(scope="session")
def adapter_of(checkpoint) -> Callable[..., LeRobotAdapter]:
    """What loads a policy type as a server does, or finds the one already loaded."""

    @functools.cache
    def load(kind: str, *, batched: bool | None = None) -> LeRobotAdapter:
        adapter = LeRobotAdapter(batched=batched)
        adapter.load_model(str(checkpoint(kind)), "cpu", Path("unused"))
        return adapter

    return load


@pytest.fixture(scope="session", params=sorted(CHECKPOINTS))
def kind(request) -> str:
    """Each policy type in turn."""
    return request.param


@pytest.fixture(scope="session")
def adapter(kind, adapter_of) -> LeRobotAdapter:
    """A loaded policy of each type."""
    return adapter_of(kind)
