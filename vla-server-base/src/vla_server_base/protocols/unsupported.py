"""What clients of other servers ask for that would change the motion and is not done here: refused by name.

Other values that are not known are left alone, for robots send much besides; these would be missed in silence.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from vla_server_base.errors import RequestError

_CHUNKS = "a chunk is as long as the policy's; execution and execution_horizon say how it is executed"
_NOISE = "how actions are drawn follows from the checkpoint and the seed; leave it out"
_REAL_TIME = "real-time chunking is not done here; leave it out, and see execution: chunk and ensemble"
_ACTIONS = "actions are the policy's own; leave it out, and convert them at the robot"
_PREDICT = "POST /predict takes it"

NOT_DONE: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "rtc",
                "rtc_config",
                "rtc_enabled",
                "enable_rtc",
                "use_rtc",
                "inference_delay",
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
        "options": "say each of them beside the observation",
    }
)
"""By name, the way on."""


def refuse_not_done(given: Iterable[tuple[str, Any]]) -> None:
    """Refuse the first of some named values that asks for what is not done here; None, False and nothing ask for none.

    Raises:
        RequestError: naming it, with a way on.
    """
    for key, value in given:
        name = key.partition(".")[0]
        if name in NOT_DONE and _asks(value):
            raise RequestError(f"{key}: this server does not do what it asks for", hint=NOT_DONE[name])


def _asks(value: Any) -> bool:
    if value is None or value is False:
        return False
    return not (isinstance(value, dict | list | tuple | str) and not value)
