"""What a policy takes and gives by its config.json, so far as a robot's client can give and take it."""

from collections import Counter

from lerobot.configs import FeatureType, PreTrainedConfig
from lerobot.utils.constants import ACTION, OBS_STATE

from vla_server_base.errors import ModelUnavailable

# Pictures that LeRobot itself fills in, for policies that were made for more cameras than a robot has.
FILLED_IN = "observation.images.empty_camera_"
_RETRAIN = "train it with --policy.input_features of cameras and observation.state only"


def check_features(config: PreTrainedConfig) -> None:
    """Check that cameras, one state and an instruction are all that a policy takes, and that it gives one action.

    Raises:
        ModelUnavailable: naming the feature.
    """
    for name, feature in (config.input_features or {}).items():
        shape = list(feature.shape)
        if feature.type is FeatureType.ENV:
            raise ModelUnavailable(
                f"the policy takes '{name}', the state of a simulation, which no robot can measure", hint=_RETRAIN
            )
        if feature.type is FeatureType.VISUAL and (len(shape) != 3 or shape[0] != 3):
            raise ModelUnavailable(
                f"camera '{name}' has images of shape {shape}, not (3, height, width): depth is not served",
                hint=_RETRAIN,
            )
        if feature.type is FeatureType.STATE and (name != OBS_STATE or len(shape) != 1):
            raise ModelUnavailable(
                f"the policy takes '{name}' of shape {shape} beside the one state that clients give, {OBS_STATE}",
                hint="join the states in one observation.state and train with that",
            )
        if feature.type not in (FeatureType.VISUAL, FeatureType.STATE, FeatureType.LANGUAGE):
            raise ModelUnavailable(
                f"the policy takes '{name}' ({feature.type.value}), which no client can give", hint=_RETRAIN
            )
    outputs = config.output_features or {}
    if set(outputs) != {ACTION} or config.action_feature is None or len(outputs[ACTION].shape) != 1:
        raise ModelUnavailable(
            f"the policy gives {', '.join(sorted(outputs)) or 'nothing'}, not just one '{ACTION}' of numbers",
            hint="correct output_features in config.json",
        )
    if not cameras_of(config):
        raise ModelUnavailable("the policy has no camera, so it cannot see what it does", hint=_RETRAIN)
    _check_window(config)


def cameras_of(config: PreTrainedConfig) -> dict[str, str]:
    """Return the cameras' names by their features, in the policy's order: `observation.images.top` is `top`.

    Raises:
        ModelUnavailable: two features have the same name.
    """
    features = [name for name in config.image_features if not name.startswith(FILLED_IN)]
    names = {name: name.removeprefix("observation.images.").removeprefix("observation.") for name in features}
    if twice := [name for name, count in Counter(names.values()).items() if count > 1]:
        raise ModelUnavailable(f"two cameras of the policy are called '{twice[0]}'", hint=_RETRAIN)
    return names


def _check_window(config: PreTrainedConfig) -> None:
    """A session's window holds the last observations, one a step."""
    indices, window = config.observation_delta_indices, config.n_obs_steps
    if indices is not None and list(indices) != list(range(1 - window, 1)):
        raise ModelUnavailable(
            f"the policy looks at steps {list(indices)[:10]} (0 is now), not at its last {window}",
            hint="policies with gaps in their history are not served",
        )
