"""Options of other servers that would change the motion and are not supported here: refused by name.

Other unknown values are ignored, because robots send many; ignoring these would silently change the motion.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from vla_server_base.errors import RequestError

_CHUNKS = "leave it out; execution and execution_horizon set how a chunk is executed, its length is the policy's"
_NOISE = "leave it out; the checkpoint and the seed determine how actions are sampled"
_REAL_TIME = "leave it out: sessions keep the last chunk; send execution rtc, aligned or blended, and inference_delay"
_ACTIONS = "leave it out, and convert actions at the robot; they are the policy's own"
_PREDICT = "use POST /predict, which takes it"

UNSUPPORTED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "rtc",
                "rtc_config",
                "rtc_enabled",
                "enable_rtc",
                "use_rtc",
                "delay",
                "s_param",
                "prefix_action",
                "prefix_actions",
                "action_prefix",
                "prev_action_chunk",
                "prev_chunk_left_over",
                "previous_action_chunk",
                "prefix_attention_horizon",
                "prefix_attention_schedule",
                "max_guidance_weight",
                "execute_horizon",
            ),
            _REAL_TIME,
        ),
        **dict.fromkeys(
            (
                "noise",
                "temperature",
                "top_k",
                "top_p",
                "do_sample",
                "argmax",
                "cfg",
                "cfg_scale",
                "guidance_scale",
                "num_steps",
                "num_inference_steps",
                "num_inference_timesteps",
                "num_denoising_steps",
                "denoising_steps",
                "num_ddim_steps",
                "use_ddim",
            ),
            _NOISE,
        ),
        **dict.fromkeys(
            (
                "action_horizon",
                "actions_per_chunk",
                "chunk_size",
                "n_action_steps",
                "num_open_loop_steps",
                "open_loop_horizon",
                "action_ensemble",
                "action_ensemble_horizon",
                "adaptive_ensemble_alpha",
                "ensemble",
                "temporal_ensemble",
                "temporal_ensemble_coeff",
            ),
            _CHUNKS,
        ),
        **dict.fromkeys(
            (
                "action_space",
                "action_mode",
                "control_mode",
                "control_frequency",
                "set_control_frequency",
                "action_scale",
            ),
            _ACTIONS,
        ),
        **dict.fromkeys(
            (
                "action_format",
                "bounds",
                "goal_image",
                "goal_image_wrist",
                "goal_images",
                "guard",
                "history",
                "num_samples",
                "preview",
            ),
            _PREDICT,
        ),
        "options": "send each of them beside the observation",
    }
)
"""The hint for each unsupported name."""


def refuse_unsupported(given: Iterable[tuple[str, Any]]) -> None:
    """Refuse the first named value that asks for something unsupported; None, False and empty values do not.

    Raises:
        RequestError: naming it, with a hint.
    """
    for key, value in given:
        name = key.partition(".")[0]
        if name in UNSUPPORTED and _asks(value):
            raise RequestError(f"{key}: this server does not support it", hint=UNSUPPORTED[name])


def _asks(value: Any) -> bool:
    if value is None or value is False:
        return False
    return not (isinstance(value, dict | list | tuple | str) and not value)
