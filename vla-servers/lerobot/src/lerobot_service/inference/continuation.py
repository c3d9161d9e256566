"""Chunks that continue the last one: LeRobot's real-time chunking (Black et al. 2025), for policies that have it."""

import inspect
from typing import Any

from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.policies.rtc import RTCConfig
from torch import Tensor

from lerobot_service.checkpoints.checkpoint import LoadedPolicy
from vla_server_base.contract import PreviousChunk


def enable_continuation(loaded: LoadedPolicy) -> bool:
    """Switch real-time chunking on where a policy has it, and return whether it has.

    Without a previous chunk it changes nothing. The guidance's settings are the checkpoint's own, if it has any.
    """
    policy, config = loaded.policy, loaded.config
    if not (policy.supports_rtc() and _takes_previous_chunk(policy)):
        return False
    settings = getattr(config, "rtc_config", None) or RTCConfig()
    settings.enabled = True
    config.rtc_config = settings  # pyright: ignore[reportAttributeAccessIssue]
    policy.init_rtc_processor()  # pyright: ignore[reportCallIssue]
    return True


def continuation(previous: PreviousChunk | None, actions: Tensor | None) -> dict[str, Any]:
    """Return the arguments of a policy whose chunk is to continue another; `actions` are its rest as the policy has it.

    The preprocessor makes them so, as it does in training: normalized, and relative to the state now if need be.
    """
    if previous is None:
        return {}
    return {
        "inference_delay": previous.inference_delay,
        "prev_chunk_left_over": actions,
        "execution_horizon": previous.execution_horizon,
    }


def _takes_previous_chunk(policy: PreTrainedPolicy) -> bool:
    takes = inspect.signature(policy.predict_action_chunk).parameters
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in takes.values())
    return takes_any or "prev_chunk_left_over" in takes
