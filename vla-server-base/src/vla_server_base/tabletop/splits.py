"""What is for training and what for judging: the seeds of trials, and the ways in which tasks are said."""

from typing import Literal

FIRST_SEED = 1_000_000
"""Trials that judge a policy are drawn from here on; those that it learns from have smaller seeds."""

Split = Literal["train", "held_out"]
"""The phrasings that a policy learns from, or those that no instruction for training is worded like."""
