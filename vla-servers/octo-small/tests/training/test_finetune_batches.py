"""Batches: what a sample is made of, that a number always gives the same batch, and what is never learnt."""

from dataclasses import replace

import numpy as np
import pytest
from small_dataset import INSTRUCTIONS, episode
from trajectory_samples import Goals, Trajectory, chunk, sample

from octo_service.preprocessing.vocabulary import UNKNOWN
from octo_service.training.augmentation import PRIMARY
from octo_service.training.batches import Batches, Drawn, Sampling, augmented, made_ahead
from octo_service.training.recordings import Recordings, dataset_statistics

EPISODES = [episode(number, length) for number, length in enumerate((5, 7, 6, 8))]
TEXTS = sorted({"", *INSTRUCTIONS})
TOKENS = {
    "input_ids": np.arange(3 * 4).reshape(3, 4) + UNKNOWN + 1,
    "attention_mask": np.ones((3, 4), np.int64),
}
SAMPLING = Sampling(batch_size=16, window=2, horizon=4, seed=7, cameras=("primary",), proprio=True)
STATISTICS = dataset_statistics(EPISODES, raw_dims=(-1,))


def _batches(**changes) -> Batches:
    return Batches(Recordings(EPISODES, STATISTICS, TEXTS), TOKENS, replace(SAMPLING, **changes))


def _every_timestep(by_image: bool, episodes=EPISODES) -> Drawn:
    """Draw each timestep once, its goal being the end of its episode."""
    lengths = np.array([len(episode) for episode in episodes])
    number = np.repeat(np.arange(len(episodes)), lengths)
    now = np.concatenate([np.arange(length) for length in lengths])
    return Drawn(number, now, lengths[number] - 1, np.full(len(now), by_image))


@pytest.mark.parametrize("by_image", [True, False])
def test_a_sample_is_the_one_that_the_references_transforms_make(by_image: bool):
    batches, drawn = _batches(), _every_timestep(by_image)
    recordings = Recordings(EPISODES, STATISTICS, TEXTS)
    assert recordings.proprio is not None
    found = batches.assemble(drawn)
    for index, (number, now) in enumerate(zip(drawn.episode, drawn.now, strict=True)):
        own, length = EPISODES[number], len(EPISODES[number])
        part = slice(recordings.starts[number], recordings.starts[number] + length)
        trajectory = Trajectory(
            observation={"image_primary": own.images["primary"], "proprio": recordings.proprio[part]},
            action=recordings.actions[part],
            instruction=own.instruction,
        )
        goals = Goals(np.full(length, length - 1), np.full(length, by_image))
        expected = sample(trajectory, int(now), goals, chunk(goals.timestep, window=2, horizon=4))
        for name, value in expected["observation"].items():
            np.testing.assert_array_equal(found["observation"][name][index], value, err_msg=name)
        np.testing.assert_array_equal(found["task"]["image_primary"][index], expected["task"]["image_primary"])
        np.testing.assert_array_equal(found["action"][index], expected["action"])
        np.testing.assert_array_equal(found["action_pad_mask"][index], expected["action_pad_mask"])
        for name, mask in expected["task"]["pad_mask_dict"].items():
            assert found["task"]["pad_mask_dict"][name][index] == mask
        text = TEXTS.index(expected["task"]["language_instruction"])
        np.testing.assert_array_equal(
            found["task"]["language_instruction"]["input_ids"][index], TOKENS["input_ids"][text]
        )


def test_a_batch_depends_on_seed_and_number_alone():
    changes = {"augmentations": {"primary": PRIMARY}, "history_dropout": 0.3, "word_dropout": 0.3}
    first, again, next_, other = (
        _batches(**changes, seed=seed)[number] for seed, number in ((7, 3), (7, 3), (7, 4), (8, 3))
    )
    for one, two in zip(_leaves(first), _leaves(again), strict=True):
        np.testing.assert_array_equal(one, two)
    for different in (next_, other):
        assert not np.array_equal(first.arrays["action"], different.arrays["action"])
        assert not np.array_equal(first.jitter["primary"].box, different.jitter["primary"].box)


def _leaves(tree) -> list[np.ndarray]:
    if isinstance(tree, np.ndarray):
        return [tree]
    return [leaf for branch in (tree.values() if isinstance(tree, dict) else tree) for leaf in _leaves(branch)]


def test_all_timesteps_of_all_episodes_come_up_alike():
    drawn = [_batches(batch_size=2600).draw(np.random.default_rng(seed)) for seed in range(4)]
    number = np.concatenate([each.episode for each in drawn])
    now = np.concatenate([each.now for each in drawn])
    counts = np.bincount(number * 10 + now)
    counts = counts[counts > 0]
    assert len(counts) == 26
    # 400 on average: five standard deviations either way.
    assert 300 < counts.min() <= counts.max() < 500


def test_goals_are_uniform_over_the_future():
    drawn = _batches(batch_size=26 * 600, keep_image_prob=1.0).draw(np.random.default_rng(0))
    is_own = drawn.episode == 2
    now, goal = drawn.now[is_own], drawn.goal[is_own]
    assert np.all(goal >= now)
    for timestep in range(6):
        counts = np.bincount(goal[now == timestep], minlength=6)[timestep:]
        np.testing.assert_allclose(counts, np.sum(now == timestep) / (6 - timestep), atol=70)


def test_either_the_goal_image_or_the_instruction_is_dropped():
    drawn = _batches(batch_size=400, keep_image_prob=0.3).draw(np.random.default_rng(0))
    length = np.array([len(episode) for episode in EPISODES])[drawn.episode]
    # The third episode has no instruction.
    has_words = drawn.episode != 2
    assert drawn.by_image[has_words].mean() == pytest.approx(0.3, abs=0.1)
    assert np.all(drawn.goal[~drawn.by_image] == length[~drawn.by_image] - 1)
    words_only = _batches(batch_size=400, keep_image_prob=0.0).draw(np.random.default_rng(0))
    np.testing.assert_array_equal(words_only.by_image, words_only.episode == 2)


def test_goals_lie_ahead_and_words_are_dropped_for_them():
    arrays = _batches(batch_size=400, keep_image_prob=0.25)[0].arrays
    is_goal, has_words = (arrays["task"]["pad_mask_dict"][name] for name in ("image_primary", "language_instruction"))
    np.testing.assert_array_equal(is_goal, ~has_words)
    goal, now = arrays["task"]["image_primary"][:, 0, 0, :2], arrays["observation"]["image_primary"][:, -1, 0, 0, :2]
    assert np.all(goal[is_goal, 0] == now[is_goal, 0])
    assert np.all(goal[is_goal, 1] >= now[is_goal, 1])
    assert np.all(goal[~is_goal] == 0)
    # Every third episode has no instruction: its goals are always pictures.
    without_words = now[:, 0] % 3 == 2
    assert np.all(is_goal[without_words])
    assert 0.15 < is_goal[~without_words].mean() < 0.35
    words = arrays["task"]["language_instruction"]["input_ids"]
    assert np.all(words[is_goal] == TOKENS["input_ids"][0])


def test_without_goal_images_a_task_is_its_words():
    task = _batches(keep_image_prob=0.0)[0].arrays["task"]
    assert task.keys() == {"language_instruction", "pad_mask_dict"}


def test_actions_that_do_not_follow_from_the_experts_are_not_learnt():
    drove = np.array([True, True, False, True, True, True])
    driven = [episode(0, 6, expert_drove=drove)]
    batches = Batches(Recordings(driven, STATISTICS, TEXTS), TOKENS, replace(SAMPLING, window=1, keep_image_prob=0.0))
    drawn = _every_timestep(by_image=False, episodes=driven)._replace(goal=np.full(6, 100))
    mask = batches.assemble(drawn)["action_pad_mask"]
    assert np.all(mask == mask[..., :1])
    # Entry j of the chunk at t: the expert drove at all of t, ..., t + j - 1.
    np.testing.assert_array_equal(
        mask[:, 0, :, 0],
        [
            [True, True, True, False],
            [True, True, False, False],
            [True, False, False, False],
            [True, True, True, True],
            [True, True, True, True],
            [True, True, True, True],
        ],
    )


def test_history_and_words_are_dropped_as_often_as_asked():
    arrays = _batches(batch_size=2000, keep_image_prob=0.0, history_dropout=0.3, word_dropout=0.2)[0].arrays
    mask, now = arrays["observation"]["timestep_pad_mask"], arrays["observation"]["image_primary"][:, -1, 0, 0, 1]
    assert mask[:, -1].all()
    assert not mask[now == 0, 0].any()
    assert 0.65 < mask[now > 0, 0].mean() < 0.75
    words = arrays["task"]["language_instruction"]["input_ids"]
    assert 0.17 < (words == UNKNOWN).mean() < 0.23
    assert TOKENS["input_ids"].min() > UNKNOWN, "the recordings' own words are not written to"


def test_augmentation_leaves_an_absent_goal_black_and_treats_a_sample_as_one():
    batch = _batches(augmentations={"primary": PRIMARY})[0]
    found = augmented(batch)
    is_goal = batch.arrays["task"]["pad_mask_dict"]["image_primary"]
    goals, window = np.asarray(found["task"]["image_primary"]), np.asarray(found["observation"]["image_primary"])
    assert 0 < is_goal.sum() < len(is_goal)
    assert np.all(goals[~is_goal] == 0)
    assert np.any(window != batch.arrays["observation"]["image_primary"])
    # Padding repeats the first observation, and goes through the same as it.
    is_padded = ~batch.arrays["observation"]["timestep_pad_mask"][:, 0]
    assert is_padded.any()
    np.testing.assert_array_equal(window[is_padded, 0], window[is_padded, 1])
    assert found["action"] is batch.arrays["action"]


def test_batches_made_ahead_come_in_order_and_bring_errors_along():
    assert list(made_ahead(lambda number: number, 3, 9)) == [3, 4, 5, 6, 7, 8]

    def make(number: int) -> int:
        if number == 2:
            raise ValueError("batch 2")
        return number

    given = made_ahead(make, 0, 5)
    assert [next(given), next(given)] == [0, 1]
    with pytest.raises(ValueError, match="batch 2"):
        next(given)
