"""A policy whose answers tell apart all that a session is made of: every image of the window, the step and the seed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from vla_server_base.config import PolicySettings
from vla_server_base.contract import NormalizedChunks, PolicyInput
from vla_server_base.testing.echo import EchoAdapter


@dataclass(frozen=True, kw_only=True)
class EchoSettings(PolicySettings):
    """The settings of a policy that has none; `predict_s` is how long the device takes."""

    model: str = "window-echo"
    predict_s: float = 0.005


class WindowEcho(EchoAdapter):
    """The echo, plus a number that the colours and the padding of the whole window make."""

    changes = MappingProxyType({"model": "window-echo", "control_hz": 10.0})

    def __init__(self, settings: EchoSettings):
        self._settings = settings

    def predict(self, batch: Sequence[PolicyInput]) -> list[NormalizedChunks]:
        time.sleep(self._settings.predict_s)
        pairs = zip(super().predict(batch), batch, strict=True)
        return [chunks + _number_of(policy_input) for chunks, policy_input in pairs]


def _number_of(policy_input: PolicyInput) -> float:
    window = policy_input.observation
    steps = zip(window["colours"][0], window["timestep_pad_mask"][0], strict=True)
    return float(sum((place + 1) * colours.sum() * is_real for place, (colours, is_real) in enumerate(steps)))
