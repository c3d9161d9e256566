"""VLAModelAdapter's defaults: what a policy gets without writing it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.contract import ActionSpec, CameraSpec, PolicyInput, PolicySpec, Task, Window
from vla_server_base.errors import UnknownName

CHUNK = np.array([[0.1, 0.2, 1.0], [0.3, 0.4, 0.0]])
SPEC = PolicySpec(
    model="small",
    cameras=(CameraSpec(name="primary", height=4, width=6), CameraSpec(name="wrist", height=2, width=2)),
    horizon=2,
    action_names=("dx", "dy", "gripper"),
    action_units=("m", "m", "0 closed, 1 open"),
)


class SmallAdapter(VLAModelAdapter):
    """What must be written, and nothing else."""

    def __init__(self, spec: PolicySpec = SPEC):
        self._spec = spec

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    def load_model(self, model_id: str, device: str, cache_dir: Path) -> None:
        pass

    def preprocess_observation(self, window: Window, dataset: str | None = None) -> dict:
        return {
            "sizes": [{name: image.shape for name, image in step.images.items()} for step in window.observations],
            "proprios": [step.proprio for step in window.observations],
            "timestep_pad_mask": window.timestep_pad_mask[None],
        }

    def preprocess_instruction(self, task: Task) -> dict:
        return {"instruction": task.instruction}

    def predict(self, batch: Iterable[PolicyInput]) -> list:
        return [np.repeat(CHUNK[None], each.num_samples, axis=0) for each in batch]


def spec_with(**changes: Any) -> PolicySpec:
    fields = {name: getattr(SPEC, name) for name in ("model", "cameras", "horizon", "action_names", "action_units")}
    return PolicySpec(**(fields | changes))


def test_the_action_dim_follows_from_the_names():
    assert SPEC.action_dim == 3
    assert spec_with(action_names=("grip",), action_units=("m",)).action_dim == 1
    assert spec_with(action_dim=99).action_dim == 3


def test_a_spec_needs_no_more_than_five_fields():
    assert SPEC.window == 1
    assert SPEC.action_formats == ("raw",)
    assert SPEC.datasets == ()
    assert SPEC.proprio_dim is None
    assert SPEC.weights == "pretrained"
    assert SPEC.camera_names == ("primary", "wrist")


def test_the_actions_of_a_dataset_that_does_not_differ_are_the_default_ones():
    joints = ActionSpec(names=("joint",), units=("rad",), formats=("raw",))
    spec = spec_with(datasets=("kitchen", "arm"), default_dataset="kitchen", other_actions={"arm": joints})
    assert spec.actions["arm"] == joints
    assert spec.actions[None] == spec.actions["kitchen"]
    assert spec.actions["kitchen"].names == SPEC.action_names


def test_an_action_is_the_chunks_first_row_in_its_own_units():
    action = SmallAdapter().postprocess_action(CHUNK, None, "raw")
    np.testing.assert_array_equal(action.action, CHUNK[0])
    np.testing.assert_array_equal(action.actions, CHUNK)
    assert action.action_names == SPEC.action_names
    assert action.action_units == SPEC.action_units


def test_standard_repeats_the_gripper():
    adapter = SmallAdapter(spec_with(action_formats=("standard",)))
    action = adapter.postprocess_action(CHUNK, None, "standard")
    np.testing.assert_array_equal(action.action, [0.1, 0.2, 1.0, 1.0])
    assert action.action_names == ("dx", "dy", "gripper", "gripper")
    assert action.action_units[-1] == "0 closed, 1 open"


def test_the_action_is_un_normalized_with_the_named_dataset():
    class Scaled(SmallAdapter):
        def un_normalize(self, chunk, dataset):
            return chunk * (10.0 if dataset == "ten" else 1.0)

    adapter = Scaled(spec_with(datasets=("one", "ten"), default_dataset="one"))
    np.testing.assert_allclose(adapter.postprocess_action(CHUNK, "ten", "raw").actions, 10 * CHUNK)
    np.testing.assert_allclose(adapter.postprocess_action(CHUNK, "one", "raw").actions, CHUNK)


@pytest.mark.parametrize("dataset", ["elsewhere", None])
def test_a_dataset_that_the_spec_lacks_is_refused_with_those_it_has(dataset: str | None):
    adapter = SmallAdapter(spec_with(datasets=("kitchen",), default_dataset="kitchen"))
    with pytest.raises(UnknownName) as error:
        adapter.postprocess_action(CHUNK, dataset, "raw")
    assert "kitchen" in error.value.as_sentence()


def test_a_format_that_the_dataset_lacks_is_refused_with_those_it_has():
    joints = ActionSpec(names=("joint",) * 3, units=("rad",) * 3, formats=("joint_position",))
    adapter = SmallAdapter(spec_with(datasets=("arm",), default_dataset="arm", other_actions={"arm": joints}))
    with pytest.raises(UnknownName) as error:
        adapter.postprocess_action(CHUNK, "arm", "raw")
    assert "joint_position" in error.value.as_sentence()


def test_the_default_warm_up_shows_every_camera_at_its_size_in_a_full_window():
    (warm_up,) = SmallAdapter(spec_with(window=3)).warm_up_inputs()
    assert warm_up.observation["sizes"] == [{"primary": (4, 6, 3), "wrist": (2, 2, 3)}] * 3
    assert warm_up.observation["proprios"] == [None] * 3
    assert warm_up.observation["timestep_pad_mask"].all()
    assert warm_up.task == {"instruction": "."}


def test_the_default_warm_up_has_proprio_for_a_policy_that_takes_it():
    (warm_up,) = SmallAdapter(spec_with(proprio_dim=5)).warm_up_inputs()
    np.testing.assert_array_equal(warm_up.observation["proprios"][0], np.zeros(5))


def test_without_more_nothing_is_prefetched_shrunk_or_unknown():
    adapter, image = SmallAdapter(), np.zeros((9, 9, 3), np.uint8)
    (warm_up,) = adapter.warm_up_inputs()
    assert list(adapter.prefetch(warm_up)) == []
    assert list(adapter.background_warm_up_inputs()) == []
    assert adapter.fit_image("primary", image) is image
    assert adapter.unknown_words("stack the flibbertigibbet") == ()


@pytest.mark.parametrize("missing", sorted(VLAModelAdapter.__abstractmethods__))
def test_an_adapter_without_one_of_the_five_steps_cannot_be_made(missing: str):
    incomplete = type("Incomplete", (VLAModelAdapter,), {k: v for k, v in vars(SmallAdapter).items() if k != missing})
    with pytest.raises(TypeError, match=missing):
        incomplete()
