"""What a policy announces: cameras, datasets, windows and actions, of a checkpoint of octo-tiny's kind."""

from dataclasses import replace

import numpy as np
import pytest
from small_octo import REGRESSION, small_checkpoint

from octo_service.config import OctoConfig
from octo_service.errors import ModelConfigError
from octo_service.inference.policy_spec import policy_spec
from octo_service.model import OctoModel
from vla_server_base.contract import PolicySpec
from vla_server_base.errors import UnknownName

CHECKPOINT = small_checkpoint(REGRESSION)
ACTION = CHECKPOINT.dataset_statistics["random"]


@pytest.fixture(scope="module")
def models() -> dict[tuple[str, ...], OctoModel]:
    named = (("random",), ("a", "b"), ("a", "bridge_dataset"))
    return {
        names: OctoModel(replace(CHECKPOINT, dataset_statistics=dict.fromkeys(names, ACTION)), None) for names in named
    }


def announced(model: OctoModel, dims: dict[str | None, int] | None = None, **config) -> PolicySpec:
    return policy_spec(model, "mine", "main", True, OctoConfig(**config), dims or {})


def test_the_cameras_and_sizes_are_those_of_the_example_batch(models):
    spec = announced(models["random",])
    assert [(camera.name, camera.height, camera.width) for camera in spec.cameras] == [("primary", 32, 32)]
    assert (spec.window, spec.horizon, spec.action_dim, spec.proprio_dim) == (1, 2, 3, None)
    assert spec.takes_goal_images


def test_actions_of_unknown_meaning_are_numbered_and_raw(models):
    spec = announced(models["random",])
    assert spec.action_names == ("action_0", "action_1", "action_2")
    assert spec.action_units == ("as in the dataset",) * 3
    assert spec.action_formats == ("raw",)


def test_a_dataset_of_fewer_numbers_is_announced_beside(models):
    spec = announced(models["a", "b"], {"a": 3, "b": 2, None: 3}, dataset="a")
    assert spec.action_dim == 3
    assert {name: actions.names for name, actions in spec.other_actions.items()} == {"b": ("action_0", "action_1")}


@pytest.mark.parametrize(
    ("names", "asked", "default"),
    [
        (("random",), None, "random"),
        (("a", "b"), None, None),
        (("a", "b"), "b", "b"),
        (("a", "bridge_dataset"), None, "bridge_dataset"),
        (("a", "bridge_dataset"), "a", "a"),
    ],
)
def test_the_default_dataset_is_the_one_asked_for_the_only_one_or_the_usual_one(models, names, asked, default):
    spec = announced(models[names], dataset=asked)
    assert spec.default_dataset == default
    assert spec.datasets == names


def test_a_dataset_that_is_not_there_is_refused_with_those_that_are(models):
    with pytest.raises(UnknownName, match="dataset 'c' is not known") as refused:
        announced(models["a", "b"], dataset="c")
    assert refused.value.hint == "available: a, b"


def test_a_window_may_be_as_long_as_the_policy_attends_to(models):
    assert announced(models["random",], window=10).window == 10
    with pytest.raises(ModelConfigError, match="OCTO_WINDOW=11: this checkpoint attends to 10 observations at most"):
        announced(models["random",], window=11)


def test_the_details_count_every_parameter_once(models):
    details = announced(models["random",]).details
    assert details["parameters"]["total"] == sum(np.size(leaf) for leaf in CHECKPOINT.params.values())
    assert details["parameters"]["text_encoder"] + details["parameters"]["policy"] == details["parameters"]["total"]
    assert (details["head"], details["tokenizer"]) == ("ContinuousHead", None)
    assert {"octo-service", "jax", "jaxlib"} == details["versions"].keys()


def test_weights_at_random_are_announced_as_such(models):
    assert announced(models["random",]).weights == "random"
    assert policy_spec(models["random",], "mine", None, False, OctoConfig(), {}).weights == "pretrained"
