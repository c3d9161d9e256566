"""A checkpoint loaded and tried: ready to predict."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch

from lerobot_service.checkpoints.checkpoint import LoadedPolicy, load_checkpoint
from lerobot_service.checkpoints.features import cameras_of
from lerobot_service.checkpoints.policy_spec import policy_spec
from lerobot_service.config import LeRobotConfig
from lerobot_service.inference.batches import BatchPrediction
from lerobot_service.inference.continuation import enable_continuation
from lerobot_service.inference.observations import ObservationPreprocessor
from lerobot_service.inference.prediction import ChunkPrediction
from lerobot_service.inference.rows import Row
from lerobot_service.inference.trial import other_noise, try_continuation, try_policy
from vla_server_base.contract import Observation, PolicySpec, Window
from vla_server_base.errors import ModelUnavailable
from vla_server_base.execution import Execution

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReadyPolicy:
    """What a policy takes and gives, its preprocessing, and its prediction; `loaded` is what LeRobot made of it."""

    loaded: LoadedPolicy
    spec: PolicySpec
    observations: ObservationPreprocessor
    chunks: BatchPrediction


def load(model_id: str, config: LeRobotConfig, device: str, *, batched: bool | None = None) -> ReadyPolicy:
    """Load a checkpoint and predict with it once; `batched` as by default on a GPU only.

    Raises:
        ModelOutOfReach: the hub does not answer.
        ModelUnavailable: the checkpoint cannot be used.
    """
    if config.torch_threads is not None:
        torch.set_num_threads(config.torch_threads)
    loaded = load_checkpoint(model_id, config, device)
    cameras = {name: feature for feature, name in cameras_of(loaded.config).items()}
    spec = policy_spec(loaded, model_id)
    observations = ObservationPreprocessor(spec, cameras, antialias=config.antialias)
    continues = enable_continuation(loaded)
    prediction = ChunkPrediction(loaded)
    on_cpu = loaded.device.type == "cpu"
    together = not on_cpu if batched is None else batched
    row = a_row(spec, observations)
    trial = try_policy(prediction, [row, other_noise(row)], exact=on_cpu, together=together)
    if trial.action_dim != spec.action_dim:
        raise ModelUnavailable(
            f"the policy's actions are {trial.action_dim} numbers; its config says {spec.action_dim}",
            hint="do policy_postprocessor.json and config.json belong together?",
        )
    notes = []
    if continues and (fault := try_continuation(prediction, row)):
        continues = False
        notes.append(f"real-time chunking is not offered: {fault}")
    if together and not trial.batch_equals_alone:
        notes.append("requests are answered one by one: in a batch the policy answers otherwise than alone")
    for note in notes:
        logger.warning("%s", note)
    details = {**spec.details, "noise_draws": trial.num_draws, "notes": [*spec.details.get("notes", ()), *notes]}
    spec = replace(
        spec,
        horizon=trial.horizon,
        execution_horizon=min(spec.execution_horizon, trial.horizon),
        supports_rtc=continues,
        details=details,
    )
    spec = executed_as(config.execution, spec)
    return ReadyPolicy(
        loaded=loaded,
        spec=spec,
        observations=observations,
        chunks=BatchPrediction(prediction, together=trial.batch_equals_alone, deterministic=trial.num_draws == 0),
    )


def executed_as(execution: Execution | None, spec: PolicySpec) -> PolicySpec:
    """Return a policy whose chunks are executed like that by default; None leaves it as it is.

    Raises:
        ModelUnavailable: it cannot do `rtc`.
    """
    if execution in (None, spec.execution):
        return spec
    if execution == "rtc" and not spec.supports_rtc:
        raise ModelUnavailable(
            f"LEROBOT_EXECUTION is rtc, and {spec.details['policy_type']} cannot be guided towards its last chunk",
            hint="set it to aligned or blended, which continue the last chunk of any policy",
        )
    horizon = spec.execution_horizon if execution in ("receding", "chunk", "ensemble") else max(1, spec.horizon // 2)
    return replace(spec, execution=execution, execution_horizon=horizon)


def a_row(spec: PolicySpec, observations: ObservationPreprocessor) -> Row:
    """Return a row of noise images and zero state, to try a policy with."""
    random = np.random.default_rng(0)
    images = {each.name: random.integers(0, 256, (each.height, each.width, 3), np.uint8) for each in spec.cameras}
    proprio = None if spec.proprio_dim is None else np.zeros(spec.proprio_dim, np.float32)
    seen = (Observation(images=images, proprio=proprio),) * spec.window
    window = Window(observations=seen, timestep_pad_mask=np.ones(spec.window, bool))
    return Row(observation=observations.window(window), text="pick up the red cube", seed=0, step=0, sample=0)
