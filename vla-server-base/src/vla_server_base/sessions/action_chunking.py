"""What a robot's control loop remembers between steps: past observations, queued and overlapping chunks."""

from collections import deque

import numpy as np
from jaxtyping import Float

from vla_server_base.contract import Observation, Window
from vla_server_base.engine.engine import pad_window

Chunk = Float[np.ndarray, "horizon action_dim"]
SingleAction = Float[np.ndarray, " action_dim"]


class ObservationWindow:
    """The last `length` observations of one robot; while it has seen fewer, the first one fills the window."""

    def __init__(self, length: int):
        self._observations: deque[Observation] = deque(maxlen=length)
        self._length = length

    def append(self, observation: Observation) -> Window:
        """Add what the robot sees now and return the window that ends with it."""
        self._observations.append(observation)
        return self.window()

    def replace_last(self, observation: Observation) -> Window:
        """Replace what the robot saw last, after the scene was changed, and return the window that ends with it."""
        self._observations[-1] = observation
        return self.window()

    def window(self) -> Window:
        """Return the window that ends with the last observation; call it after the first `append`."""
        return pad_window(self._observations, self._length)

    @property
    def seen(self) -> tuple[Observation, ...]:
        """The observations, oldest first, without the copies that fill the window."""
        return tuple(self._observations)

    def reset(self) -> None:
        """Forget all observations: a new episode begins."""
        self._observations.clear()


class RecedingHorizon:
    """Executes the first `execution_horizon` actions of each chunk, then asks for the next one.

    Follows `RHCWrapper` of octo-models/octo.
    """

    def __init__(self, execution_horizon: int):
        self._execution_horizon = execution_horizon
        self._chunk: Chunk | None = None
        self._num_executed = 0

    @property
    def num_queued(self) -> int:
        """How many actions are left before the policy is asked again."""
        return 0 if self._chunk is None else max(0, self._execution_horizon - self._num_executed)

    def put(self, chunk: Chunk) -> None:
        """Replace the queued actions by the start of `chunk`."""
        assert len(chunk) >= self._execution_horizon, "the chunk is shorter than the execution horizon"
        self._chunk, self._num_executed = chunk, 0

    def remaining(self) -> Chunk:
        """Return the next action and the chunk's actions after it."""
        assert self._chunk is not None, "a chunk was put"
        return self._chunk[self._num_executed :]

    def rest(self) -> Chunk | None:
        """Return what is left of the chunk, also beyond the execution horizon; None before the first chunk."""
        return None if self._chunk is None else self.remaining()

    def next_action(self) -> SingleAction:
        """Return the next action to execute."""
        action = self.remaining()[0]
        self.skip(1)
        return action

    def skip(self, num_steps: int) -> None:
        """Leave out the actions of steps that went by."""
        self._num_executed += num_steps

    def state(self) -> list[np.ndarray]:
        """Return the arrays from which `restore` continues, in another process."""
        return [] if self._chunk is None else [self._chunk, np.array([self._num_executed])]

    def restore(self, state: list[np.ndarray]) -> None:
        """Go on from the `state` of another plan of the same class."""
        self.reset()
        if state:
            self._chunk, (self._num_executed,) = state[0], state[1].tolist()

    def reset(self) -> None:
        """Drop the queued actions: a new episode begins."""
        self._chunk, self._num_executed = None, 0


class TemporalEnsemble:
    """Averages the actions of the last `horizon` chunks for the present step.

    Follows `TemporalEnsembleWrapper` of octo-models/octo and arXiv 2304.13705, algorithm 2: weights
    exp(-exp_weight * i) with i = 0 the oldest chunk, so a positive `exp_weight` trusts the oldest most.
    """

    def __init__(self, horizon: int, exp_weight: float = 0.0):
        self._horizon = horizon
        self._exp_weight = exp_weight
        self._chunks: list[Chunk] = []
        """From the present step on, oldest first."""

    @property
    def num_queued(self) -> int:
        """Always 0: the policy is asked at each step."""
        return 0

    def put(self, chunk: Chunk) -> None:
        """Add the chunk predicted now."""
        assert len(chunk) >= self._horizon, "the chunk is shorter than the ensemble's horizon"
        self._chunks.append(chunk[: self._horizon])

    def remaining(self) -> Chunk:
        """Return the action to execute now, as the only row: later chunks change the next ones."""
        predictions = np.stack([chunk[0] for chunk in self._chunks])
        exponents = -self._exp_weight * np.arange(len(predictions))
        # The largest is 1, so that none overflows; only their proportions count.
        weights = np.exp(exponents - exponents.max())
        return (weights / weights.sum())[None] @ predictions

    def next_action(self) -> SingleAction:
        """Return the action to execute now."""
        action = self.remaining()[0]
        self.skip(1)
        return action

    def skip(self, num_steps: int) -> None:
        """Leave out the actions of steps that went by."""
        self._chunks = [chunk[num_steps:] for chunk in self._chunks if len(chunk) > num_steps]

    def state(self) -> list[np.ndarray]:
        """Return the arrays from which `restore` continues, in another process."""
        return list(self._chunks)

    def restore(self, state: list[np.ndarray]) -> None:
        """Go on from the `state` of another plan of the same class."""
        self._chunks = list(state)

    def reset(self) -> None:
        """Forget all chunks: a new episode begins."""
        self._chunks.clear()


ActionPlan = RecedingHorizon | TemporalEnsemble
