"""Who attends to whom, as laws: causality, what each kind of group may see, and padding."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octo_service.model.attention_mask import Group, attention_mask, attention_rules, group_names
from octo_service.model.tokens import TokenGroup

PREFIX: tuple[Group, ...] = (("task_language", 3),)
TIMESTEP: tuple[Group, ...] = (("obs_primary", 2), ("obs_wrist", 1), ("readout_action", 2))

sizes = st.integers(1, 4)
timesteps = st.tuples(sizes, sizes, sizes).map(
    lambda each: (("obs_primary", each[0]), ("obs_wrist", each[1]), ("readout_action", each[2]))
)
prefixes = st.lists(sizes, max_size=2).map(
    lambda each: tuple((f"task_{name}", size) for name, size in zip("ab", each, strict=False))
)


def kinds_and_steps(prefix: tuple[Group, ...], timestep: tuple[Group, ...], window: int) -> tuple[list[str], list[int]]:
    kinds = [name for name, size in prefix for _ in range(size)]
    of_step = [name for name, size in timestep for _ in range(size)]
    return kinds + of_step * window, [-1] * len(kinds) + [step for step in range(window) for _ in of_step]


def a_group(mask: np.ndarray) -> TokenGroup:
    return TokenGroup(jnp.zeros((*mask.shape, 4)), jnp.asarray(mask))


def groups(is_seen: np.ndarray) -> dict[str, TokenGroup]:
    """Return a timestep of one camera, masked where it is not seen, and of a readout."""
    return {"obs_primary": a_group(is_seen), "readout_action": a_group(np.ones(is_seen.shape, bool))}


@given(prefix=prefixes, timestep=timesteps, window=st.integers(1, 4))
@settings(max_examples=30)
def test_every_pair_is_allowed_by_the_kinds_and_the_order_of_time_alone(prefix, timestep, window):
    rules = attention_rules(prefix, timestep, window, use_correct_attention=True)
    kinds, steps = kinds_and_steps(prefix, timestep, window)
    for row, (kind, step) in enumerate(zip(kinds, steps, strict=True)):
        for column, (other, earlier) in enumerate(zip(kinds, steps, strict=True)):
            visible = other.startswith("task_") or (
                earlier <= step and (not kind.startswith("task_") if other.startswith("obs_") else kind == other)
            )
            assert rules[row, column] == visible, (kind, step, other, earlier)


@given(prefix=prefixes, timestep=timesteps, window=st.integers(1, 4), is_correct=st.booleans())
@settings(max_examples=30)
def test_nothing_attends_to_a_later_timestep(prefix, timestep, window, is_correct):
    rules = attention_rules(prefix, timestep, window, is_correct)
    _, steps = kinds_and_steps(prefix, timestep, window)
    later = np.array(steps)[None] > np.array(steps)[:, None]
    assert not rules[later].any()


@given(prefix=prefixes, timestep=timesteps, window=st.integers(1, 3))
@settings(max_examples=30)
def test_every_token_attends_to_itself(prefix, timestep, window):
    assert attention_rules(prefix, timestep, window, use_correct_attention=True).diagonal().all()


@given(timestep=timesteps, window=st.integers(2, 4))
@settings(max_examples=20)
def test_a_longer_window_changes_nothing_for_the_earlier_timesteps(timestep, window):
    longer, shorter = (attention_rules(PREFIX, timestep, each, use_correct_attention=True) for each in (window, 1))
    np.testing.assert_array_equal(longer[: len(shorter), : len(shorter)], shorter)


def test_tasks_attend_to_tasks_alone():
    rules = attention_rules(PREFIX, TIMESTEP, 2, use_correct_attention=True)
    assert rules[:3, :3].all()
    assert not rules[:3, 3:].any()


def test_only_readouts_of_the_same_name_attend_to_a_readout():
    timestep = (("obs_primary", 1), ("readout_action", 1), ("readout_value", 1))
    rules = attention_rules((), timestep, 2, use_correct_attention=True)
    readers = {column: np.flatnonzero(rules[:, column]).tolist() for column in (1, 2)}
    assert readers == {1: [1, 4], 2: [2, 5]}


def test_in_the_first_checkpoints_a_groups_first_token_counts_as_one_of_the_group_before():
    assert (
        group_names(TIMESTEP, use_correct_attention=True)
        == ["obs_primary"] * 2 + ["obs_wrist"] + ["readout_action"] * 2
    )
    assert group_names(TIMESTEP, use_correct_attention=False) == ["obs_primary"] * 3 + ["obs_wrist", "readout_action"]


def test_a_padded_token_is_attended_by_none_and_still_has_a_row():
    prefix = {"task_language": a_group(np.array([[True, True, False]]))}
    timestep = groups(np.array([[[False], [True]]]))
    mask = np.asarray(attention_mask(prefix, timestep, use_correct_attention=True))[0]
    rules = attention_rules(PREFIX, (("obs_primary", 1), ("readout_action", 1)), 2, use_correct_attention=True)
    assert not mask[:, [2, 3]].any()
    real = [0, 1, 4, 5, 6]
    np.testing.assert_array_equal(mask[:, real], rules[:, real])


def test_each_item_of_a_batch_is_masked_by_its_own_padding():
    timestep = groups(np.array([[[True]], [[False]]]))
    mask = np.asarray(attention_mask({}, timestep, use_correct_attention=True))
    assert mask.tolist() == [[[True, False], [True, True]], [[False, False], [False, True]]]


def test_rules_are_worked_out_once_and_cannot_be_written_to():
    rules = attention_rules(PREFIX, TIMESTEP, 2, use_correct_attention=True)
    assert attention_rules(PREFIX, TIMESTEP, 2, use_correct_attention=True) is rules
    with pytest.raises(ValueError, match="read-only"):
        rules[0, 0] = False
