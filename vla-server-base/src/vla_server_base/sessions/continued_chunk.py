"""A chunk that continues the last one, so that a robot's commands do not jump when it arrives.

A robot that asks ahead goes on with its last chunk until the answer comes. Follows Black et al. 2025, Real-Time
Execution of Action Chunking Flow Policies, section 3: what will have been executed by then is frozen.
"""

import numpy as np
from jaxtyping import Float

from vla_server_base.contract import PreviousChunk
from vla_server_base.errors import RequestError
from vla_server_base.execution import Execution
from vla_server_base.sessions.action_chunking import Chunk

CONTINUED: tuple[Execution, ...] = ("rtc", "aligned", "blended")
"""The executions whose chunks continue the last one."""


def check_continues(execution: Execution, inference_delay: int | None) -> None:
    """Refuse an inference delay where no chunk is continued.

    Raises:
        RequestError: it would change nothing.
    """
    if inference_delay is not None and execution not in CONTINUED:
        raise RequestError(
            f"inference_delay: execution {execution} continues no chunk",
            hint="send execution rtc, aligned or blended with the episode's first step, or leave inference_delay out",
        )


def previous_chunk(rest: Chunk, inference_delay: int, execution_horizon: int) -> PreviousChunk | None:
    """Return the chunk to be continued, of which `rest` is left from this step on; None if nothing is.

    `inference_delay` steps pass until the answer arrives, and up to row `execution_horizon` the old chunk counts;
    neither is more than there is left.
    """
    if not len(rest):
        return None
    delay = min(inference_delay, len(rest))
    return PreviousChunk(
        actions=rest, inference_delay=delay, execution_horizon=max(delay, min(execution_horizon, len(rest)))
    )


def continued(chunk: Chunk, previous: PreviousChunk | None, execution: Execution) -> Chunk:
    """Return a chunk whose first `inference_delay` rows are the previous one's; `blended` goes over to it in a ramp."""
    if previous is None:
        return chunk
    end = previous.execution_horizon if execution == "blended" else previous.inference_delay
    weights = old_weights(previous.inference_delay, end)[:, None].astype(chunk.dtype)
    old, new = previous.actions[:end], chunk[:end]
    # Where the old row counts alone, a sum would round it.
    return np.concatenate([np.where(weights == 1, old, new + weights * (old - new)), chunk[end:]])


def old_weights(inference_delay: int, end: int) -> Float[np.ndarray, " end"]:
    """Return how much each old row counts: 1 while it is executed, then linearly less, 0 from `end` on."""
    falling = (end - np.arange(end)) / (end - inference_delay + 1)
    return np.minimum(falling, 1)
