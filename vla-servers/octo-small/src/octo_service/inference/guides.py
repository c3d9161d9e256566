"""What a request's last chunk asks of the head: which numbers of the next one it freezes, and which it pulls."""

import numpy as np

from octo_service.model.heads import ActionHead
from octo_service.model.heads.guidance import Guide, prefix_weights
from vla_server_base.contract import PreviousChunk


def guide_of(previous: PreviousChunk | None, head: ActionHead) -> Guide | None:
    """Return the guide towards a previous chunk, of which only the rows and dimensions that it has count."""
    if previous is None:
        return None
    num_rows, action_dim = previous.actions.shape
    shape = (head.action_horizon, head.action_dim)
    target, weights = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    target[:num_rows, :action_dim] = previous.actions
    end = min(previous.execution_horizon, num_rows)
    weights[:, :action_dim] = prefix_weights(min(previous.inference_delay, end), end, len(weights))[:, None]
    return Guide(target.reshape(1, -1), weights.reshape(1, -1))
