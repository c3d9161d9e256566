"""What the server tells about a session that it holds."""

from dataclasses import dataclass

from vla_server_base.sessions.session import Session


@dataclass(frozen=True, kw_only=True)
class SessionStatus:
    """One session: how it acts, where it is, and how long ago it was used; `step` is the next request's."""

    id: str
    execution: str
    instruction: str | None
    seed: int
    step: int
    idle_s: float
    is_waiting: bool


def status_of(session: Session) -> SessionStatus:
    """Return what is known of a session now."""
    progress = session.progress
    return SessionStatus(
        id=session.id,
        execution=session.settings.execution,
        instruction=progress.task.instruction if progress.task else None,
        seed=progress.seed,
        step=progress.step,
        idle_s=round(session.clock() - session.last_used, 3),
        is_waiting=session.num_waiting > 0,
    )
