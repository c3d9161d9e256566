"""A policy for evaluations: what it does depends on each image's last bit, and on wish it ends its own process."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from vla_server_base.commands.options.evaluate import Evaluate
from vla_server_base.commands.program import PolicyProgram
from vla_server_base.config import PolicySettings
from vla_server_base.testing import EchoAdapter


@dataclass(frozen=True, kw_only=True)
class JudgedConfig(PolicySettings):
    """`fatal` is a file with how many more processes are to end in the middle of a trial."""

    model: str = "judged"
    fatal: str = ""
    has_own_weights: bool = False


class Judged(EchoAdapter):
    """Lowers the arm and sweeps it to and fro, by what the echo says of images, seed and step."""

    changes = MappingProxyType({"proprio_dim": None})

    def __init__(self, config: JudgedConfig):
        self._config = config
        details = {"folder": os.getcwd(), "openmp_threads": os.environ.get("OMP_NUM_THREADS")}
        if config.has_own_weights:
            details["checkpoint_hash"] = f"{os.getpid():012}"
        self.changes = {**self.changes, "details": details}

    def predict(self, batch):
        if self._config.fatal and any(policy_input.step for policy_input in batch):
            end_if_wished(Path(self._config.fatal))
        return [sweep(chunks) for chunks in super().predict(batch)]


def sweep(chunks):
    brightness, noise = chunks[..., :3].sum(-1, keepdims=True), chunks[..., 6:]
    to_and_fro = 0.12 * np.sin(1e6 * (brightness + noise))
    return np.concatenate([to_and_fro, -0.5 * to_and_fro, -0.05 + 0 * noise, 0 * chunks[..., 3:6], 0 * noise], -1)


def end_if_wished(file: Path) -> None:
    num_left = int(file.read_text())
    if num_left:
        file.write_text(str(num_left - 1))
        os.kill(os.getpid(), signal.SIGKILL)


PROGRAM = PolicyProgram(
    name="judged-service",
    description="A policy that is judged.",
    config=JudgedConfig,
    prefix="JUDGED",
    commands={"evaluate": Evaluate[JudgedConfig]},
    adapter="judged_policy:Judged",
    resize="",
    packages=("vla-server-base", "mujoco"),
)
