"""The statistics by which processors normalize: LeRobot leaves unchanged, without a word, what has none."""

from collections.abc import Iterable
from typing import Any

import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature, PreTrainedConfig
from lerobot.processor import NormalizerProcessorStep, PolicyProcessorPipeline, UnnormalizerProcessorStep
from lerobot.utils.constants import ACTION

from vla_server_base.errors import ModelUnavailable

STATISTICS = {
    NormalizationMode.MEAN_STD: ("mean", "std"),
    NormalizationMode.MIN_MAX: ("min", "max"),
    NormalizationMode.QUANTILES: ("q01", "q99"),
    NormalizationMode.QUANTILE10: ("q10", "q90"),
}
_HINT = "copy the checkpoint again with its *_processor*.safetensors, or make its processors anew from its data set"


def check_statistics(
    config: PreTrainedConfig, preprocessor: PolicyProcessorPipeline, postprocessor: PolicyProcessorPipeline
) -> None:
    """Check that every input and the action are normalized as config.json says, by statistics that fit them.

    Raises:
        ModelUnavailable: naming the feature and what is wrong with its statistics.
    """
    inputs = [step for step in preprocessor.steps if isinstance(step, NormalizerProcessorStep)]
    outputs = [step for step in postprocessor.steps if isinstance(step, UnnormalizerProcessorStep)]
    for name, feature in (config.input_features or {}).items():
        _check_feature(name, feature, _mode_of(config, feature), inputs, "preprocessor")
    for name, feature in (config.output_features or {}).items():
        _check_feature(name, feature, _mode_of(config, feature), outputs, "postprocessor")


def _mode_of(config: PreTrainedConfig, feature: PolicyFeature) -> NormalizationMode:
    mapping = {
        str(FeatureType(kind).value): mode for kind, mode in getattr(config, "normalization_mapping", {}).items()
    }
    return NormalizationMode(mapping.get(feature.type.value, NormalizationMode.IDENTITY))


def _check_feature(
    name: str, feature: PolicyFeature, mode: NormalizationMode, steps: Iterable[Any], pipeline: str
) -> None:
    found = [
        (step, step.norm_map.get(feature.type, NormalizationMode.IDENTITY)) for step in steps if _covers(step, name)
    ]
    modes = [each for _, each in found if each is not NormalizationMode.IDENTITY]
    wanted = [] if mode is NormalizationMode.IDENTITY else [mode]
    if modes != wanted:
        raise ModelUnavailable(
            f"the {pipeline} normalizes '{name}' by {_listed(modes)}, and config.json says {_listed(wanted)}",
            hint=_HINT,
        )
    for step, each in found:
        if each is not NormalizationMode.IDENTITY:
            _check_tensors(name, feature, each, step._tensor_stats.get(name), pipeline)


def _covers(step: Any, name: str) -> bool:
    return name in step.features and (
        name == ACTION or step.normalize_observation_keys is None or name in step.normalize_observation_keys
    )


def _check_tensors(
    name: str,
    feature: PolicyFeature,
    mode: NormalizationMode,
    statistics: dict[str, torch.Tensor] | None,
    pipeline: str,
) -> None:
    low, high = STATISTICS[mode]
    if statistics is None or low not in statistics or high not in statistics:
        raise ModelUnavailable(
            f"the {pipeline} has no {low} and {high} of '{name}', which is normalized by {mode.value}", hint=_HINT
        )
    wanted = (feature.shape[0], 1, 1) if feature.type is FeatureType.VISUAL else tuple(feature.shape)
    for each in (low, high):
        if tuple(statistics[each].shape) not in (wanted, tuple(feature.shape)):
            shapes = f"{list(statistics[each].shape)}, not {list(wanted)}"
            raise ModelUnavailable(f"the {pipeline}'s {each} of '{name}' has the shape {shapes}", hint=_HINT)
        if not torch.isfinite(statistics[each]).all():
            raise ModelUnavailable(f"the {pipeline}'s {each} of '{name}' is not finite", hint=_HINT)
    spread = statistics["std"] if mode is NormalizationMode.MEAN_STD else statistics[high] - statistics[low]
    if (spread < 0).any():
        raise ModelUnavailable(f"the {pipeline}'s {low} and {high} of '{name}' have a negative spread", hint=_HINT)
    # A constant action stays what it was. An input that was constant would be divided by 1e-8.
    if name != ACTION and mode in (NormalizationMode.MEAN_STD, NormalizationMode.MIN_MAX) and (spread == 0).any():
        numbers = torch.nonzero(spread.flatten() == 0).flatten().tolist()
        raise ModelUnavailable(
            f"the {pipeline}'s statistics of '{name}' have no spread in numbers {numbers[:5]}, so that the least "
            "movement there would be magnified beyond all measure",
            hint="train without numbers that never change, or give them a std of 1 in the normalizer's file",
        )


def _listed(modes: list[NormalizationMode]) -> str:
    return " and ".join(mode.value for mode in modes) or "nothing"
