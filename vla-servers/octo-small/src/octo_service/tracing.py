"""Whether numbers are there, or a program that works them out is only being compiled."""

from typing import Any

import jax
from jax.core import Tracer


def is_traced(*trees: Any) -> bool:
    """Say whether any array is one of a program that is being compiled, which has no numbers yet."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree_util.tree_leaves(trees))
