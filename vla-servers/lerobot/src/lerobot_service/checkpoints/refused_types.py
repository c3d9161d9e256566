"""Policy types that are refused by name, each with its reason."""

from vla_server_base.errors import ModelUnavailable

_FETCHES = "it fetches {} from the hub while it is built"
REFUSED = {
    "tdmpc": "it plans with a value function from one observation to the next and returns no chunk",
    "gaussian_actor": "it is an actor of reinforcement learning and predicts no chunk",
    "lingbot_va": "it keeps the state of one robot between calls, so that robots would share it",
    "pi0_fast": "its action tokenizer is code from the hub, which is run on the checkpoint's word",
    "eo1": _FETCHES.format("Qwen2.5-VL"),
    "evo1": _FETCHES.format("InternVL3"),
    "fastwam": _FETCHES.format("Wan's text encoder and VAE"),
    "groot": _FETCHES.format("its backbone"),
    "molmoact2": _FETCHES.format("MolmoAct2"),
    "vla_jepa": _FETCHES.format("Qwen3-VL and V-JEPA"),
    "wall_x": _FETCHES.format("Qwen2.5-VL's processor"),
    "reward_classifier": "it judges images and gives no actions",
    "sarm": "it judges progress and gives no actions",
    "robometer": "it judges progress and gives no actions",
    "topreward": "it judges progress and gives no actions",
}


def refusal_of(policy_type: str) -> ModelUnavailable | None:
    """Return why a policy type is not served, None if nothing speaks against it."""
    if policy_type not in REFUSED:
        return None
    return ModelUnavailable(
        f"policy type '{policy_type}' is not served: {REFUSED[policy_type]}",
        hint="served are act, diffusion, vqbet, multi_task_dit, smolvla, pi0, pi05 and xvla",
    )
