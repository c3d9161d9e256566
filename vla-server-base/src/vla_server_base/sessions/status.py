"""What the server tells about a session that it holds."""

from dataclasses import dataclass

from vla_server_base.sessions.session import Session


@dataclass(frozen=True, kw_only=True)
class SessionStatus:
    """One session: who it is of, which model answers it, how it acts, where it is, and how fast its steps are.

    `step` is the next request's; `last_ms` is None until a step was answered.
    """

    id: str
    client: str
    protocol: str
    model: str
    execution: str
    instruction: str | None
    seed: int
    step: int
    idle_s: float
    is_waiting: bool
    steps_per_s: float
    last_ms: float | None


def status_of(session: Session) -> SessionStatus:
    """Return what is known of a session now."""
    progress, answered, now = session.progress, session.answered, session.clock()
    return SessionStatus(
        id=session.id,
        client=session.client,
        protocol=session.protocol,
        model=session.engine.id,
        execution=session.settings.execution,
        instruction=progress.task.instruction if progress.task else None,
        seed=progress.seed,
        step=progress.step,
        idle_s=round(now - session.last_used, 3),
        is_waiting=session.num_waiting > 0,
        steps_per_s=round(answered.per_s(now), 2),
        last_ms=round(answered.last.total_ms, 3) if answered.last else None,
    )
