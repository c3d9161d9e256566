"""Augmentation by its properties; windows, chunks and goals of short trajectories by hand."""

import jax
import numpy as np
import pytest
from trajectory_samples import Goals, Trajectory, chunk, sample

from octo_service.training.augmentation import PRIMARY, WRIST, Augmentation, Jitter, augment

NOTHING = Augmentation(crop_area=(1, 1), crop_ratio=(1, 1), brightness=0, contrast=(1, 1), saturation=(1, 1), hue=0)
SHAPE = (2, 2, 16, 16, 3)  # batch, window, height, width: one for all, which compiles once
compiled = jax.jit(augment)


def _pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)


def _uniform(*colour: int) -> np.ndarray:
    return np.full(SHAPE, colour, np.uint8)


def _jitter(**changed: float) -> Jitter:
    drawn = NOTHING.draw(np.random.default_rng(0), 2)
    return drawn._replace(**{name: np.full(2, value, np.float32) for name, value in changed.items()})


def test_without_jitter_every_picture_stays_as_it_is():
    np.testing.assert_array_equal(compiled(_pictures(), _jitter()), _pictures())


def test_the_same_seed_augments_in_the_same_way():
    first, second, other = (
        np.asarray(compiled(_pictures(), PRIMARY.draw(np.random.default_rng(seed), 2))) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert np.any(first != other)
    assert first.dtype == np.uint8


def test_every_frame_of_a_sample_is_augmented_alike_and_samples_differ():
    pictures = np.broadcast_to(_pictures()[:1, :1], SHAPE)
    found = np.asarray(compiled(pictures, PRIMARY.draw(np.random.default_rng(0), 2)))
    assert all(np.array_equal(found[0, 0], frame) for frame in found[0])
    assert not np.array_equal(found[0], found[1])


def test_draws_keep_to_their_ranges():
    drawn = PRIMARY.draw(np.random.default_rng(0), 2000)
    top, left, bottom, right = drawn.box.T
    assert drawn.box.min() >= 0
    assert drawn.box.max() <= 1 + 1e-6
    area, ratio = (bottom - top) * (right - left), (right - left) / (bottom - top)
    assert 0.8 * 0.9 < area.min() < 0.82
    assert 0.98 < area.max() <= 1 + 1e-6
    assert 0.9 - 1e-5 < ratio.min() < 0.92
    assert 1.08 < ratio.max() < 1.1 + 1e-5
    assert np.abs(drawn.brightness).max() == pytest.approx(0.1, abs=1e-3)
    assert np.abs(drawn.hue).max() == pytest.approx(0.05, abs=1e-3)
    for factor in (drawn.contrast, drawn.saturation):
        assert (factor.min(), factor.max()) == pytest.approx((0.9, 1.1), abs=1e-3)
    # Independent draws: no two have anything to do with each other.
    correlation = np.corrcoef([area, drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue])
    assert np.abs(correlation - np.eye(5)).max() < 0.1


def test_a_wrist_camera_keeps_its_frame():
    drawn = WRIST.draw(np.random.default_rng(0), 5)
    np.testing.assert_array_equal(drawn.box, np.tile([0, 0, 1, 1], (5, 1)))
    assert np.abs(drawn.brightness).min() > 0


def test_a_crop_shows_a_part_of_the_picture_at_full_size():
    ramp = np.broadcast_to((np.arange(16, dtype=np.uint8) * 17)[:, None, None], SHAPE)
    box = np.tile(np.array([0.25, 0, 0.75, 1], np.float32), (2, 1))
    found = np.asarray(compiled(ramp, _jitter()._replace(box=box)))
    expected = np.broadcast_to(np.linspace(0.25, 0.75, 16)[:, None, None] * 255, SHAPE)
    np.testing.assert_allclose(found, expected, atol=2)


def test_brightness_is_added_and_ends_at_white():
    found = np.asarray(compiled(_uniform(100, 100, 100), _jitter(brightness=0.1)), int)
    np.testing.assert_allclose(found, np.full(SHAPE, 125.5), atol=1)
    assert np.all(np.asarray(compiled(_uniform(250, 250, 250), _jitter(brightness=0.1))) == 255)


def test_contrast_stretches_about_the_mean():
    pictures = _uniform(100, 100, 100)
    pictures[:, :, :8] = 120
    found = np.asarray(compiled(pictures, _jitter(contrast=2.0)), int)
    np.testing.assert_allclose(found, np.where(pictures == 120, 130, 90), atol=1)


def test_without_saturation_a_picture_is_grey():
    found = np.asarray(compiled(_pictures(), _jitter(saturation=0.0)))
    np.testing.assert_array_equal(found, np.broadcast_to(_pictures().max(-1, keepdims=True), SHAPE))


def test_a_third_of_the_hues_turns_red_to_green():
    found = np.asarray(compiled(_uniform(200, 0, 0), _jitter(hue=1 / 3)), int)
    np.testing.assert_allclose(found, _uniform(0, 200, 0), atol=1)


def _trajectory(length: int, instruction: str = "open the drawer") -> Trajectory:
    steps = np.arange(length, dtype=np.float32)
    pictures = np.broadcast_to(np.arange(1, length + 1, dtype=np.uint8)[:, None, None, None], (length, 2, 2, 3))
    return Trajectory(
        observation={"image_primary": pictures, "proprio": steps[:, None]},
        action=np.stack([steps, -steps], axis=1),
        instruction=instruction,
    )


def test_windows_and_chunks_repeat_what_is_beyond_the_ends():
    chunks = chunk(np.full(4, 3), window=2, horizon=3)
    np.testing.assert_array_equal(chunks.observed, [[0, 0], [0, 1], [1, 2], [2, 3]])
    np.testing.assert_array_equal(chunks.timestep_pad_mask, [[False, True], [True, True], [True, True], [True, True]])
    np.testing.assert_array_equal(chunks.acted[0], [[0, 1, 2], [0, 1, 2]])
    np.testing.assert_array_equal(chunks.acted[2], [[1, 2, 3], [2, 3, 3]])
    np.testing.assert_array_equal(chunks.acted[3], [[2, 3, 3], [3, 3, 3]])
    # The goal is at timestep 3: what is done at 5 and later is past it.
    np.testing.assert_array_equal(chunks.task_completed[2], [[False] * 3, [False] * 3])
    np.testing.assert_array_equal(chunks.task_completed[3], [[False] * 3, [False, False, True]])


def test_a_goal_in_hindsight_ends_the_actions_that_count():
    chunks = chunk(np.array([1, 1, 2, 3, 4]), window=1, horizon=4)
    np.testing.assert_array_equal(chunks.task_completed[0], [[False, False, False, True]])
    np.testing.assert_array_equal(chunks.task_completed[1], [[False, False, True, True]])
    np.testing.assert_array_equal(chunks.task_completed[2], [[False, False, True, True]])


@pytest.mark.parametrize("by_image", [True, False])
def test_a_sample_is_what_the_model_is_trained_on(by_image: bool):
    trajectory = _trajectory(5)
    goals = Goals(timestep=np.full(5, 3 if by_image else 4), by_image=np.full(5, by_image))
    made = sample(trajectory, 2, goals, chunk(goals.timestep, window=2, horizon=4))
    np.testing.assert_array_equal(made["observation"]["proprio"], [[1], [2]])
    assert made["observation"]["image_primary"].shape == (2, 2, 2, 3)
    np.testing.assert_array_equal(made["action"][:, :, 0], [[1, 2, 3, 4], [2, 3, 4, 4]])
    task = made["task"]
    assert task["language_instruction"] == ("" if by_image else "open the drawer")
    assert np.all(task["image_primary"] == (4 if by_image else 0))
    assert task["pad_mask_dict"] == {"image_primary": by_image, "language_instruction": not by_image}
    ended = [[True] * 4, [True, True, True, not by_image]]
    np.testing.assert_array_equal(made["action_pad_mask"], np.repeat(np.array(ended)[..., None], 2, axis=-1))
