"""Action heads: what the transformer says about a readout, to a chunk of normalized actions."""

from octo_service.model.heads.continuous import ContinuousHead, l1_head, mse_head
from octo_service.model.heads.diffusion import DiffusionHead
from octo_service.model.heads.discrete import DiscreteHead

ActionHead = ContinuousHead | DiffusionHead | DiscreteHead
ACTION_HEADS = {
    "ContinuousActionHead": ContinuousHead,
    "L1ActionHead": l1_head,
    "MSEActionHead": mse_head,
    "DiffusionActionHead": DiffusionHead,
    "DiscreteActionHead": DiscreteHead,
    "TokenPerDimActionHead": DiscreteHead,
}

__all__ = ["ACTION_HEADS", "ActionHead", "ContinuousHead", "DiffusionHead", "DiscreteHead"]
