"""Warm-up shows every subset of cameras and proprio that a robot may send, the usual ones first."""

import numpy as np
import pytest

from octo_service.inference.warm_up import WarmUp, blank_task
from vla_server_base.contract import CameraSpec, PolicyArrays, PolicyInput, PolicySpec, Window


def a_spec(
    cameras: tuple[str, ...] = ("primary", "wrist"), window: int = 2, proprio_dim: int | None = None
) -> PolicySpec:
    return PolicySpec(
        model="random://octo-tiny",
        revision=None,
        weights="random",
        cameras=tuple(CameraSpec(name=name, height=8, width=8) for name in cameras),
        window=window,
        horizon=4,
        action_dim=7,
        action_names=(),
        action_units=(),
        action_formats=("raw",),
        datasets=(),
        default_dataset=None,
        platform="cpu",
        device="cpu",
        proprio_dim=proprio_dim,
    )


def shown(window: Window) -> PolicyArrays:
    """Return what each timestep shows, in the place of the arrays that a policy takes."""
    names = [(*sorted(step.images), *(["proprio"] if step.proprio is not None else [])) for step in window.observations]
    return {"shown": names, "timestep_pad_mask": window.timestep_pad_mask[None]}


def warm_up(spec: PolicySpec) -> WarmUp:
    return WarmUp(spec, {}, shown)


def last_shown(inputs: list[PolicyInput]) -> list[tuple[str, ...]]:
    return [policy_input.observation["shown"][-1] for policy_input in inputs]


def test_the_usual_inputs_are_the_first_camera_and_everything_until_the_window_is_full():
    inputs = list(warm_up(a_spec()).usual())
    assert last_shown(inputs) == [("primary",)] * 2 + [("primary", "wrist")] * 2
    assert [policy_input.step for policy_input in inputs] == [0, 1, 0, 1]
    assert [policy_input.observation["timestep_pad_mask"].all() for policy_input in inputs] == [False, True] * 2


def test_a_policy_of_one_camera_needs_one_usual_episode():
    assert last_shown(list(warm_up(a_spec(cameras=("primary",))).usual())) == [("primary",)] * 2


@pytest.mark.parametrize("proprio_dim", [None, 3])
def test_every_subset_is_shown_throughout_a_window(proprio_dim: int | None):
    warm = warm_up(a_spec(proprio_dim=proprio_dim))
    throughout = {
        policy_input.observation["shown"][-1]
        for policy_input in [*warm.usual(), *warm.rare()]
        if len(set(policy_input.observation["shown"])) == 1
    }
    subsets = {("primary",), ("wrist",), ("primary", "wrist")}
    assert throughout >= (subsets if proprio_dim is None else {(*each, "proprio") for each in subsets} | subsets)


def test_a_timestep_that_lacks_something_is_shown_at_every_place_of_a_window():
    windows = [policy_input.observation["shown"] for policy_input in warm_up(a_spec(window=3)).rare()]
    everything = ("primary", "wrist")
    for place in range(3):
        expected: list[tuple[str, ...]] = [everything] * 3
        expected[place] = ("wrist",)
        assert expected in windows


def test_the_last_rare_input_asks_for_several_samples():
    *others, last = warm_up(a_spec()).rare()
    assert last.num_samples == 2
    assert {policy_input.num_samples for policy_input in others} == {1}


def test_the_first_input_shows_everything_in_a_window_that_is_padded():
    first = warm_up(a_spec(proprio_dim=3)).first()
    assert first.observation["shown"][-1] == ("primary", "wrist", "proprio")
    assert np.sum(first.observation["timestep_pad_mask"]) == 1


def test_the_blank_task_has_no_word_that_a_vocabulary_could_lack():
    assert blank_task().instruction == "."
