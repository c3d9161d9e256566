"""Fit: how a step of training is made to fit into memory."""

from dataclasses import dataclass

from vla_server_base.config import Count


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How much of a step is computed at a time. It changes what is learned by rounding alone."""

    micro_batch: Count | None = None
    """Samples that are computed at a time; by default as many as fit. It divides the batch size."""

    remat: bool = False
    """Compute the transformer's blocks twice instead of keeping all that is in them."""
