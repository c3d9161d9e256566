"""Which session makes room for another one."""

from collections import Counter
from collections.abc import Callable, Collection

from vla_server_base.sessions.session import Session


def session_to_forget(sessions: Collection[Session], cost: Callable[[Session], int]) -> Session | None:
    """Return the least recently used idle session, first of the client whose sessions cost most.

    None where all sessions are in use.
    """
    costs = Counter[str]()
    for session in sessions:
        costs[session.client] += cost(session)
    idle = [session for session in sessions if not session.num_waiting]
    return min(idle, key=lambda session: (-costs[session.client], session.last_used), default=None)
