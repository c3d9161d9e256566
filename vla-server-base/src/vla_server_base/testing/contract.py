"""The tests that every adapter has to pass: a model package subclasses `AdapterContract`.

For readable failures, a conftest.py calls
`pytest.register_assert_rewrite("vla_server_base.testing.contract")`.
"""

import itertools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.contract import NormalizedChunks, PolicyInput, Task
from vla_server_base.errors import UnknownName
from vla_server_base.testing.policy_inputs import (
    a_window,
    an_input,
    camera_subsets,
    preprocessed,
    tasks,
    with_last_image,
    without_image,
)


class AdapterContract:
    """Subclass as `class TestMyAdapter(AdapterContract)` next to a fixture `adapter` that returns a loaded adapter.

    `tolerance` is the allowed difference of one request's results in different batches: sums in another order round
    differently.
    """

    tolerance = 1e-3

    def test_the_spec_holds_together(self, adapter: VLAModelAdapter):
        spec = adapter.spec
        names = [camera.name for camera in spec.cameras]
        assert names
        assert len(set(names)) == len(names)
        assert min(spec.window, spec.horizon, spec.action_dim, spec.max_instruction_chars) >= 1
        assert len(spec.action_names) == len(spec.action_units) == spec.action_dim
        assert spec.action_formats
        assert spec.default_dataset is None or spec.default_dataset in spec.datasets
        assert len(spec.proprio_names) in (0, spec.proprio_dim)
        assert len(spec.proprio_units) in (0, spec.proprio_dim)
        assert spec.proprio_dim or not spec.requires_proprio
        assert 1 <= spec.execution_horizon <= spec.horizon
        assert spec.supports_rtc or spec.execution != "rtc"
        assert spec.control_hz is None or spec.control_hz > 0

    def test_an_observation_gets_the_axes_one_and_window(self, adapter: VLAModelAdapter):
        window = a_window(adapter, num_seen=1)
        arrays = _leaves(adapter.preprocess_observation(window))
        assert arrays
        assert {np.shape(array)[:2] for array in arrays.values()} == {(1, adapter.spec.window)}

    def test_a_task_gets_the_axis_one(self, adapter: VLAModelAdapter):
        for task in tasks(adapter):
            arrays = _leaves(adapter.preprocess_instruction(task))
            assert arrays or not adapter.spec.takes_instruction
            assert all(np.shape(array)[:1] == (1,) for array in arrays.values())

    def test_images_of_any_size_are_accepted_and_not_changed(self, adapter: VLAModelAdapter):
        small, large = a_window(adapter, size=(100, 140)), a_window(adapter, size=(480, 640))
        before = [image.copy() for image in large.observations[-1].images.values()]
        assert _signature(adapter.preprocess_observation(small)) == _signature(adapter.preprocess_observation(large))
        after = large.observations[-1].images.values()
        assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))

    def test_a_fitted_image_gives_the_same_result_as_the_original(self, adapter: VLAModelAdapter):
        window = a_window(adapter)
        for camera in adapter.spec.cameras:
            large = np.random.default_rng(0).integers(0, 256, (2 * camera.height, 3 * camera.width, 3), np.uint8)
            fitted = adapter.fit_image(camera.name, large)
            assert fitted.nbytes <= large.nbytes
            np.testing.assert_array_equal(adapter.fit_image(camera.name, fitted), fitted)
            from_large, from_fitted = (
                _predict_alone(adapter, preprocessed(adapter, with_last_image(window, camera.name, image)))
                for image in (large, fitted)
            )
            np.testing.assert_array_equal(from_fitted, from_large)

    def test_each_input_gets_its_chunks(self, adapter: VLAModelAdapter):
        inputs = [an_input(adapter, seed=1, num_samples=2), an_input(adapter, seed=2)]
        shape = (adapter.spec.horizon, adapter.spec.action_dim)
        assert [chunks.shape for chunks in adapter.predict(inputs)] == [(2, *shape), (1, *shape)]
        assert all(np.isfinite(chunks).all() for chunks in adapter.predict(inputs))

    def test_the_same_seed_gives_the_same_answer(self, adapter: VLAModelAdapter):
        np.testing.assert_array_equal(
            _predict_alone(adapter, an_input(adapter)), _predict_alone(adapter, an_input(adapter))
        )

    def test_the_images_matter(self, adapter: VLAModelAdapter):
        one, other = (_predict_alone(adapter, an_input(adapter, image_seed=seed)) for seed in (0, 1))
        assert not np.array_equal(one, other)

    def test_the_other_requests_of_a_batch_do_not_matter(self, adapter: VLAModelAdapter):
        request = an_input(adapter)
        others = [
            an_input(adapter, image_seed=1, seed=8, task=Task(instruction="open the drawer")),
            an_input(adapter, image_seed=2, seed=9, num_seen=adapter.spec.window),
        ]
        together = adapter.predict([others[0], request, others[1]])[1]
        np.testing.assert_allclose(together, _predict_alone(adapter, request), rtol=0, atol=self.tolerance)

    def test_the_first_sample_does_not_depend_on_how_many_are_drawn(self, adapter: VLAModelAdapter):
        one = _predict_alone(adapter, an_input(adapter))
        three = _predict_alone(adapter, an_input(adapter, num_samples=3))
        assert len(three) == 3
        np.testing.assert_allclose(three[:1], one, rtol=0, atol=self.tolerance)

    def test_the_pieces_of_a_request_are_what_it_gets_at_once(self, adapter: VLAModelAdapter):
        request = an_input(adapter, num_samples=11)
        pieces = np.concatenate(list(adapter.predict_in_pieces(request)))
        np.testing.assert_array_equal(pieces, _predict_alone(adapter, request))

    def test_every_dataset_and_format_gives_named_finite_numbers(self, adapter: VLAModelAdapter):
        spec = adapter.spec
        chunk = _predict_alone(adapter, an_input(adapter))[0]
        for dataset in spec.datasets or (None,):
            for action_format in set(spec.actions[dataset].formats) & {"raw", "standard", "ee_delta"}:
                action = adapter.postprocess_action(chunk, dataset, action_format)
                assert action.actions.shape == (spec.horizon, spec.action_dim)
                assert np.isfinite(action.actions).all()
                assert len(action.action) == len(action.action_names) == len(action.action_units)

    def test_standard_is_the_first_action_with_its_gripper_repeated(self, adapter: VLAModelAdapter):
        chunk = _predict_alone(adapter, an_input(adapter))[0]
        for action_format, num_repeats in (("standard", 1), ("ee_delta", 0), ("raw", 0)):
            if action_format in adapter.spec.action_formats:
                action = adapter.postprocess_action(chunk, adapter.spec.default_dataset, action_format)
                first = action.actions[0]
                np.testing.assert_array_equal(action.action, [*first, *[first[-1]] * num_repeats])

    def test_a_copy_without_parameters_does_all_that_needs_none(self, adapter: VLAModelAdapter):
        copied, spec = adapter.without_parameters(), adapter.spec
        assert copied.spec == spec
        assert copied.unknown_words("zzyzx") == adapter.unknown_words("zzyzx")
        image = np.arange(3 * 999 * 999, dtype=np.uint8).reshape(999, 999, 3)
        for camera in spec.camera_names:
            np.testing.assert_array_equal(copied.fit_image(camera, image), adapter.fit_image(camera, image))
        for dataset, actions in spec.actions.items():
            chunk = np.linspace(-1, 1, spec.horizon * len(actions.names)).reshape(spec.horizon, len(actions.names))
            known = dataset if dataset is not None or not spec.datasets else spec.default_dataset
            given, expected = (
                each.postprocess_action(chunk, known, actions.formats[0]).actions for each in (copied, adapter)
            )
            np.testing.assert_array_equal(given, expected)

    def test_an_unknown_dataset_or_format_is_refused_with_the_known_ones(self, adapter: VLAModelAdapter):
        spec = adapter.spec
        chunk = np.zeros((spec.horizon, spec.action_dim), np.float32)
        with pytest.raises(UnknownName, match="nowhere") as dataset_error:
            adapter.postprocess_action(chunk, "nowhere", spec.action_formats[0])
        assert all(dataset in str(dataset_error.value.hint) for dataset in spec.datasets)
        with pytest.raises(UnknownName, match="sideways") as format_error:
            adapter.postprocess_action(chunk, spec.default_dataset, "sideways")
        assert all(name in str(format_error.value.hint) for name in spec.action_formats)

    def test_the_warm_up_covers_every_signature_a_request_can_have(self, adapter: VLAModelAdapter):
        inputs = itertools.chain(adapter.warm_up_inputs(), adapter.background_warm_up_inputs())
        warm = {_input_signature(policy_input) for policy_input in inputs}
        for cameras in camera_subsets(adapter):
            for task in tasks(adapter):
                assert _input_signature(an_input(adapter, cameras=cameras, task=task)) in warm

    def test_a_camera_may_miss_a_timestep_without_changing_other_results(self, adapter: VLAModelAdapter):
        whole = a_window(adapter, num_seen=adapter.spec.window)
        before = _predict_alone(adapter, preprocessed(adapter, whole))
        optional = [camera.name for camera in adapter.spec.cameras if not camera.required]
        cameras = optional if len(adapter.spec.cameras) > 1 else ()
        for camera, timestep in itertools.product(cameras, range(adapter.spec.window)):
            chunks = _predict_alone(adapter, preprocessed(adapter, without_image(whole, camera, timestep)))
            assert chunks.shape == before.shape
            assert np.isfinite(chunks).all()
        np.testing.assert_array_equal(_predict_alone(adapter, preprocessed(adapter, whole)), before)

    def test_every_allowed_set_of_cameras_is_taken(self, adapter: VLAModelAdapter):
        spec = adapter.spec
        for cameras in camera_subsets(adapter):
            (chunk,) = _predict_alone(adapter, an_input(adapter, cameras=cameras))
            assert chunk.shape == (spec.horizon, spec.action_dim)
            assert np.isfinite(chunk).all()

    def test_preprocessing_is_the_same_on_many_threads(self, adapter: VLAModelAdapter):
        windows = [a_window(adapter, image_seed=seed) for seed in range(16)]
        instructions = [Task(instruction=f"stack block {number}") for number in range(16)]
        with ThreadPoolExecutor(8) as threads:
            preprocessed_windows = list(threads.map(adapter.preprocess_observation, windows))
            preprocessed_tasks = list(threads.map(adapter.preprocess_instruction, instructions))
        for window, arrays in zip(windows, preprocessed_windows, strict=True):
            _assert_same(arrays, adapter.preprocess_observation(window))
        for task, arrays in zip(instructions, preprocessed_tasks, strict=True):
            _assert_same(arrays, adapter.preprocess_instruction(task))


def _predict_alone(adapter: VLAModelAdapter, policy_input: PolicyInput) -> NormalizedChunks:
    return adapter.predict([policy_input])[0]


def _input_signature(policy_input: PolicyInput) -> tuple:
    return _signature(policy_input.observation), _signature(policy_input.task)


def _signature(arrays: Mapping[str, Any]) -> tuple:
    return tuple((name, np.shape(leaf), _kind(leaf)) for name, leaf in sorted(_leaves(arrays).items()))


def _kind(leaf: Any) -> str:
    """Return the type of an array's items; text has no signature that a policy could be compiled for."""
    dtype = np.asarray(leaf).dtype
    return "text" if dtype.kind in "OU" else str(dtype)


def _leaves(arrays: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping's arrays by their paths."""
    leaves: dict[str, Any] = {}
    for name, value in arrays.items():
        path = f"{prefix}/{name}"
        leaves |= _leaves(value, path) if isinstance(value, Mapping) else {path: value}
    return leaves


def _assert_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    ones, others = _leaves(one), _leaves(other)
    assert ones.keys() == others.keys()
    for path, leaf in ones.items():
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(others[path]), err_msg=path)
