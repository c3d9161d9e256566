"""Backend: where a server's policy runs, and what it shares with other servers."""

from collections.abc import Callable
from dataclasses import dataclass

from vla_server_base.engine.engine import Engine
from vla_server_base.engine.in_process import InProcessEngine
from vla_server_base.scenes.scene_worker import Launch
from vla_server_base.scenes.worker_process import WorkerProcess
from vla_server_base.sessions.store import SessionStore

MakeEngine = Callable[..., Engine]
"""Makes an engine, which has not started, of what `InProcessEngine` is made of."""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """Where a server's policy and scene workers run, and what it shares with other servers.

    By default all is in its own process or on its own machine, and nothing is shared.
    """

    make_engine: MakeEngine = InProcessEngine
    shares_port: bool = False
    """Whether other servers listen at the same port (SO_REUSEPORT), and take its connections when it ends."""
    launch_scene_worker: Launch = WorkerProcess.launch
    session_store: SessionStore | None = None
    """What it shares its sessions by; None where it has them to itself."""
