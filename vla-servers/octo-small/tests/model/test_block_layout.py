"""Which tokens of a timestep enter the transformer, and which of them the head reads."""

from octo_service.model.block_layout import BlockLayout, block_layout

GROUPS = (("obs_primary", 3), ("obs_wrist", 2), ("readout_action", 1), ("readout_value", 1))
ALL = tuple(name for name, _ in GROUPS)


def layout(*real: str, reads: str = "readout_action", is_correct: bool = True) -> BlockLayout:
    return block_layout(GROUPS, real or ALL, reads, is_correct)


def test_observations_are_tokens_and_the_heads_readout_is_the_only_readout():
    assert layout() == BlockLayout(tokens=(0, 1, 2, 3, 4), readouts=(5,), read=(5,))


def test_a_masked_group_has_no_tokens():
    assert layout("obs_wrist", "readout_action", "readout_value") == BlockLayout(
        tokens=(3, 4), readouts=(5,), read=(2,)
    )


def test_another_heads_readout_is_another_layout():
    assert layout(reads="readout_value") == BlockLayout(tokens=(0, 1, 2, 3, 4), readouts=(6,), read=(5,))


def test_a_head_may_read_all_observations():
    assert layout(reads="obs") == BlockLayout(tokens=(0, 1, 2, 3, 4), readouts=(), read=(0, 1, 2, 3, 4))


def test_a_head_may_read_one_camera():
    assert layout(reads="obs_wrist").read == (3, 4)


def test_in_the_first_checkpoints_a_readouts_first_token_counts_as_an_observation():
    assert layout(is_correct=False) == BlockLayout(tokens=(0, 1, 2, 3, 4, 5), readouts=(6,), read=(5,))
