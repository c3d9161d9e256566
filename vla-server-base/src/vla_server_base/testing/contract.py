"""What every adapter keeps, as tests: a model package subclasses `AdapterContract`.

For readable failures, a conftest.py calls
`pytest.register_assert_rewrite("vla_server_base.testing.contract")`.
"""

import itertools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vla_server_base.contract import Image, NormalizedChunks, Observation, PolicyInput, Task, VLAModelAdapter, Window
from vla_server_base.errors import UnknownName
from vla_server_base.sessions.action_chunking import ObservationWindow


class AdapterContract:
    """Subclass as `class TestMyAdapter(AdapterContract)` beside a module's fixture `adapter` that is loaded.

    `tolerance` is how far two answers may be apart that must be the same but come from different batches:
    a sum taken in another order rounds differently.
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

    def test_an_observation_gets_the_axes_one_and_window(self, adapter: VLAModelAdapter):
        window = a_window(adapter, num_seen=1)
        arrays = _leaves(adapter.preprocess_observation(window))
        assert arrays
        assert {np.shape(array)[:2] for array in arrays.values()} == {(1, adapter.spec.window)}

    def test_a_task_gets_the_axis_one(self, adapter: VLAModelAdapter):
        for task in tasks(adapter):
            arrays = _leaves(adapter.preprocess_instruction(task))
            assert arrays
            assert {np.shape(array)[:1] for array in arrays.values()} == {(1,)}

    def test_pictures_of_any_size_are_taken_and_left_alone(self, adapter: VLAModelAdapter):
        small, large = a_window(adapter, size=(100, 140)), a_window(adapter, size=(480, 640))
        before = [image.copy() for image in large.observations[-1].images.values()]
        assert _signature(adapter.preprocess_observation(small)) == _signature(adapter.preprocess_observation(large))
        after = large.observations[-1].images.values()
        assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))

    def test_a_picture_made_as_small_as_the_policys_is_answered_as_the_picture_was(self, adapter: VLAModelAdapter):
        window = a_window(adapter)
        for camera in adapter.spec.cameras:
            large = np.random.default_rng(0).integers(0, 256, (2 * camera.height, 3 * camera.width, 3), np.uint8)
            fitted = adapter.fit_image(camera.name, large)
            assert fitted.nbytes <= large.nbytes
            np.testing.assert_array_equal(adapter.fit_image(camera.name, fitted), fitted)
            sent, kept = (
                _predict_alone(adapter, _as_input(adapter, _showing(window, camera.name, picture)))
                for picture in (large, fitted)
            )
            np.testing.assert_array_equal(kept, sent)

    def test_each_input_gets_its_chunks(self, adapter: VLAModelAdapter):
        inputs = [an_input(adapter, seed=1, num_samples=2), an_input(adapter, seed=2)]
        shape = (adapter.spec.horizon, adapter.spec.action_dim)
        assert [chunks.shape for chunks in adapter.predict(inputs)] == [(2, *shape), (1, *shape)]
        assert all(np.isfinite(chunks).all() for chunks in adapter.predict(inputs))

    def test_the_same_seed_gives_the_same_answer(self, adapter: VLAModelAdapter):
        np.testing.assert_array_equal(
            _predict_alone(adapter, an_input(adapter)), _predict_alone(adapter, an_input(adapter))
        )

    def test_what_is_seen_matters(self, adapter: VLAModelAdapter):
        one, other = (_predict_alone(adapter, an_input(adapter, picture_seed=seed)) for seed in (0, 1))
        assert not np.array_equal(one, other)

    def test_batch_mates_do_not_matter(self, adapter: VLAModelAdapter):
        wanted = an_input(adapter)
        mates = [
            an_input(adapter, picture_seed=1, seed=8, task=Task(instruction="open the drawer")),
            an_input(adapter, picture_seed=2, seed=9, num_seen=adapter.spec.window),
        ]
        together = adapter.predict([mates[0], wanted, mates[1]])[1]
        np.testing.assert_allclose(together, _predict_alone(adapter, wanted), rtol=0, atol=self.tolerance)

    def test_the_first_sample_does_not_depend_on_how_many_are_drawn(self, adapter: VLAModelAdapter):
        one = _predict_alone(adapter, an_input(adapter))
        three = _predict_alone(adapter, an_input(adapter, num_samples=3))
        assert len(three) == 3
        np.testing.assert_allclose(three[:1], one, rtol=0, atol=self.tolerance)

    def test_every_dataset_and_format_gives_named_finite_numbers(self, adapter: VLAModelAdapter):
        spec = adapter.spec
        chunk = _predict_alone(adapter, an_input(adapter))[0]
        for dataset in spec.datasets or (None,):
            for action_format in set(spec.action_formats) & {"standard", "ee_delta"}:
                action = adapter.postprocess_action(chunk, dataset, action_format)
                assert action.actions.shape == (spec.horizon, spec.action_dim)
                assert np.isfinite(action.actions).all()
                assert len(action.action) == len(action.action_names) == len(action.action_units)

    def test_standard_is_the_first_action_and_its_gripper_once_more(self, adapter: VLAModelAdapter):
        chunk = _predict_alone(adapter, an_input(adapter))[0]
        for action_format, again in (("standard", 1), ("ee_delta", 0)):
            if action_format in adapter.spec.action_formats:
                action = adapter.postprocess_action(chunk, adapter.spec.default_dataset, action_format)
                first = action.actions[0]
                np.testing.assert_array_equal(action.action, [*first, *[first[-1]] * again])

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
        names = [camera.name for camera in adapter.spec.cameras]
        for cameras in (names[: count + 1] for count in range(len(names))):
            for task in tasks(adapter):
                assert _input_signature(an_input(adapter, cameras=cameras, task=task)) in warm

    def test_a_camera_may_miss_a_timestep_and_that_changes_no_other_answer(self, adapter: VLAModelAdapter):
        whole = a_window(adapter, num_seen=adapter.spec.window)
        before = _predict_alone(adapter, _as_input(adapter, whole))
        cameras = adapter.spec.camera_names if len(adapter.spec.cameras) > 1 else ()
        for camera, timestep in itertools.product(cameras, range(adapter.spec.window)):
            found = _predict_alone(adapter, _as_input(adapter, _without(whole, camera, timestep)))
            assert found.shape == before.shape
            assert np.isfinite(found).all()
        np.testing.assert_array_equal(_predict_alone(adapter, _as_input(adapter, whole)), before)

    def test_preprocessing_is_the_same_on_many_threads(self, adapter: VLAModelAdapter):
        windows = [a_window(adapter, picture_seed=seed) for seed in range(16)]
        instructions = [Task(instruction=f"stack block {number}") for number in range(16)]
        with ThreadPoolExecutor(8) as threads:
            observed = list(threads.map(adapter.preprocess_observation, windows))
            told = list(threads.map(adapter.preprocess_instruction, instructions))
        for window, arrays in zip(windows, observed, strict=True):
            _assert_same(arrays, adapter.preprocess_observation(window))
        for task, arrays in zip(instructions, told, strict=True):
            _assert_same(arrays, adapter.preprocess_instruction(task))


def a_window(
    adapter: VLAModelAdapter,
    *,
    picture_seed: int = 0,
    num_seen: int = 1,
    size: tuple[int, int] = (224, 224),
    cameras: list[str] | None = None,
) -> Window:
    """Return a window of noise pictures, of which `num_seen` timesteps are real."""
    random = np.random.default_rng(picture_seed)
    names = cameras or [camera.name for camera in adapter.spec.cameras]
    history = ObservationWindow(adapter.spec.window)
    windows = [
        history.append(Observation(images={name: random.integers(0, 256, (*size, 3), np.uint8) for name in names}))
        for _ in range(num_seen)
    ]
    return windows[-1]


def tasks(adapter: VLAModelAdapter) -> list[Task]:
    """Return one task of each kind that the policy takes."""
    instruction = "pick up the red cube"
    if not adapter.spec.takes_goal_images:
        return [Task(instruction=instruction)]
    goals = {adapter.spec.cameras[0].name: np.full((224, 224, 3), 127, np.uint8)}
    return [
        Task(instruction=instruction),
        Task(goal_images=goals),
        Task(instruction=instruction, goal_images=goals),
    ]


def an_input(
    adapter: VLAModelAdapter,
    *,
    seed: int = 7,
    num_samples: int = 1,
    task: Task | None = None,
    picture_seed: int = 0,
    num_seen: int = 1,
    cameras: list[str] | None = None,
) -> PolicyInput:
    """Return one request as the policy takes it."""
    window = a_window(adapter, picture_seed=picture_seed, num_seen=num_seen, cameras=cameras)
    return _as_input(adapter, window, seed=seed, num_samples=num_samples, task=task)


def _as_input(
    adapter: VLAModelAdapter, window: Window, *, seed: int = 7, num_samples: int = 1, task: Task | None = None
) -> PolicyInput:
    return PolicyInput(
        observation=adapter.preprocess_observation(window),
        task=adapter.preprocess_instruction(task or tasks(adapter)[0]),
        seed=seed,
        num_samples=num_samples,
    )


def _showing(window: Window, camera: str, picture: Image) -> Window:
    """Return the window as if a camera had seen something else at its end."""
    *before, last = window.observations
    return replace(window, observations=(*before, replace(last, images={**last.images, camera: picture})))


def _without(window: Window, camera: str, timestep: int) -> Window:
    """Return the window as if a camera had missed a timestep."""
    steps = list(window.observations)
    images = {name: image for name, image in steps[timestep].images.items() if name != camera}
    steps[timestep] = replace(steps[timestep], images=images)
    return replace(window, observations=tuple(steps))


def _predict_alone(adapter: VLAModelAdapter, policy_input: PolicyInput) -> NormalizedChunks:
    return adapter.predict([policy_input])[0]


def _input_signature(policy_input: PolicyInput) -> tuple:
    return _signature(policy_input.observation), _signature(policy_input.task)


def _signature(arrays: Mapping[str, Any]) -> tuple:
    return tuple((name, np.shape(leaf), str(np.asarray(leaf).dtype)) for name, leaf in sorted(_leaves(arrays).items()))


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
