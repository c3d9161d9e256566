"""The inputs that policies are tested with."""

from dataclasses import replace

import numpy as np

from vla_server_base.contract import PolicySpec
from vla_server_base.testing import EchoAdapter
from vla_server_base.testing.policy_inputs import a_window, an_input, tasks, with_last_image, without_image

BLACK = np.zeros((8, 8, 3), np.uint8)


class WithoutGoals(EchoAdapter):
    """An echo that takes instructions only."""

    @property
    def spec(self) -> PolicySpec:
        return replace(super().spec, takes_goal_images=False)


def test_the_same_seed_draws_the_same_images_and_another_seed_others():
    one, same, other = (a_window(EchoAdapter(), image_seed=seed).observations[-1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.images["primary"], same.images["primary"])
    assert not np.array_equal(one.images["primary"], other.images["primary"])


def test_a_window_is_padded_where_nothing_was_seen():
    assert a_window(EchoAdapter(), num_seen=1).timestep_pad_mask.tolist() == [False, True]
    assert a_window(EchoAdapter(), num_seen=2).timestep_pad_mask.tolist() == [True, True]


def test_a_window_has_the_cameras_and_the_size_that_were_asked_for():
    (image,) = a_window(EchoAdapter(), size=(4, 6), cameras=["wrist"]).observations[-1].images.values()
    assert image.shape == (4, 6, 3)


def test_an_image_is_replaced_or_left_out_at_one_timestep_alone():
    window = a_window(EchoAdapter(), num_seen=2)
    before, last = with_last_image(window, "wrist", BLACK).observations
    assert (before, last.images["wrist"].max()) == (window.observations[0], 0)
    first, second = without_image(window, "wrist", 0).observations
    assert [set(step.images) for step in (first, second)] == [{"primary"}, {"primary", "wrist"}]


def test_goal_images_are_tasks_only_of_policies_that_take_them():
    assert [bool(task.goal_images) for task in tasks(EchoAdapter())] == [False, True, True]
    assert [bool(task.goal_images) for task in tasks(WithoutGoals())] == [False]


def test_an_input_has_the_seed_and_the_number_of_samples():
    policy_input = an_input(EchoAdapter(), seed=3, num_samples=2)
    assert (policy_input.seed, policy_input.num_samples) == (3, 2)
    assert len(EchoAdapter().predict([policy_input])[0]) == 2
