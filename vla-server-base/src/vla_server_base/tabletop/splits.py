"""What is for training and what for evaluation: the seeds of trials, and the paraphrases of tasks."""

from typing import Literal

FIRST_SEED = 1_000_000
"""The first seed of evaluation trials; trials for training have smaller seeds."""

Split = Literal["train", "held_out"]
"""The paraphrases for training, or those that are held out from it."""
