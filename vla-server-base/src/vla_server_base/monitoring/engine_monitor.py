"""EngineMonitor: what one model's engine reports."""

from collections.abc import Sequence
from contextvars import Context

from vla_server_base.monitoring.monitor import Monitoring, record_batch
from vla_server_base.monitoring.running_request import current_request


class EngineMonitor:
    """What the engine of `model` reports, on any thread; a request is named by the context that it came in."""

    def __init__(self, monitor: Monitoring, model: str):
        self.monitor, self.model = monitor, model

    def preprocessed(self, context: Context, seconds: float) -> None:
        """Report that a request was preprocessed."""
        self.monitor.metrics.stage("preprocess", seconds, self.model)
        request = context.get(current_request)
        if request is not None:
            request.record("preprocess", seconds)

    def batch_ran(self, contexts: Sequence[Context], queue_s: Sequence[float], infer_s: float) -> None:
        """Report a batch: how long each of its requests waited, and how long the device took for all."""
        metrics = self.monitor.metrics
        metrics.batch(self.model, len(contexts))
        for seconds in queue_s:
            metrics.stage("queue", seconds, self.model)
            metrics.stage("infer", infer_s, self.model)
        record_batch([context.get(current_request) for context in contexts], queue_s, infer_s)

    def predicted_elsewhere(self, context: Context, queue_s: float, infer_s: float) -> None:
        """Report a request that another process answered: how long it waited there, and how long its device took."""
        self.monitor.metrics.stage("queue", queue_s, self.model)
        self.monitor.metrics.stage("infer", infer_s, self.model)
        record_batch([context.get(current_request)], [queue_s], infer_s)

    def step_answered(self, seconds: float) -> None:
        """Report a control step, or a prediction without a session, that has its action."""
        self.monitor.metrics.step_answered(seconds)

    def steps_dropped(self, reason: str, num: int = 1) -> None:
        """Report control steps that get no action: `superseded` by a newer one, or `skipped` by the client."""
        self.monitor.metrics.steps_dropped(reason, num)

    def note_step(self, session: str | None, step: int, seed: int) -> None:
        """Say which step of which session the current request is."""
        self.monitor.note_step(session, step, seed, self.model)
