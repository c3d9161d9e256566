"""What a robot's control loop remembers between steps: past observations, queued and overlapping chunks."""

from collections import deque

import numpy as np
from jaxtyping import Float

from vla_server_base.contract import Observation, Window

Chunk = Float[np.ndarray, "horizon action_dim"]
SingleAction = Float[np.ndarray, " action_dim"]


class ObservationWindow:
    """The last `length` observations of one robot.

    Follows `HistoryWrapper` of octo-models/octo: the first observation fills the whole window, and
    the mask is False where a slot still holds such a copy.
    """

    def __init__(self, length: int):
        self._observations: deque[Observation] = deque(maxlen=length)
        self._length = length
        self._num_seen = 0

    def append(self, observation: Observation) -> Window:
        """Add what the robot sees now and return the window that ends with it."""
        self._observations.extend([observation] * (1 if self._observations else self._length))
        self._num_seen = min(self._num_seen + 1, self._length)
        mask = np.arange(self._length) >= self._length - self._num_seen
        return Window(observations=tuple(self._observations), timestep_pad_mask=mask)

    def reset(self) -> None:
        """Forget everything: a new episode begins."""
        self._observations.clear()
        self._num_seen = 0


class RecedingHorizon:
    """Executes the first `execution_horizon` actions of each chunk, then asks for the next one.

    Follows `RHCWrapper` of octo-models/octo.
    """

    def __init__(self, execution_horizon: int):
        self._execution_horizon = execution_horizon
        self._queue: deque[SingleAction] = deque()

    @property
    def num_queued(self) -> int:
        """How many actions are left before the policy is to be asked."""
        return len(self._queue)

    def put(self, chunk: Chunk) -> None:
        """Replace what is queued by the start of `chunk`."""
        assert len(chunk) >= self._execution_horizon, "the chunk is shorter than the execution horizon"
        self._queue = deque(chunk[: self._execution_horizon])

    def take(self) -> SingleAction:
        """Return the next action to execute."""
        return self._queue.popleft()

    def reset(self) -> None:
        """Drop what is queued: a new episode begins."""
        self._queue.clear()


class TemporalEnsemble:
    """Averages what the last `horizon` chunks say about the present step.

    Follows `TemporalEnsembleWrapper` of octo-models/octo and arXiv 2304.13705, algorithm 2: weights
    exp(-exp_weight * i) with i = 0 the oldest chunk, so a positive `exp_weight` trusts the oldest most.
    """

    def __init__(self, horizon: int, exp_weight: float = 0.0):
        self._horizon = horizon
        self._exp_weight = exp_weight
        self._chunks: deque[Chunk] = deque(maxlen=horizon)

    @property
    def num_queued(self) -> int:
        """None are left, ever: the policy is asked at each step."""
        return 0

    def put(self, chunk: Chunk) -> None:
        """Add the chunk predicted now."""
        assert len(chunk) >= self._horizon, "the chunk is shorter than the ensemble's horizon"
        self._chunks.append(chunk)

    def take(self) -> SingleAction:
        """Return the action to execute now."""
        newest = len(self._chunks) - 1
        predictions = np.stack([past[newest - i] for i, past in enumerate(self._chunks)])
        weights = np.exp(-self._exp_weight * np.arange(len(predictions)))
        return (weights / weights.sum()) @ predictions

    def reset(self) -> None:
        """Forget all chunks: a new episode begins."""
        self._chunks.clear()


ActionPlan = RecedingHorizon | TemporalEnsemble
