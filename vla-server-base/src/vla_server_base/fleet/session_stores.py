"""Session stores on the cluster: actors that keep what servers save of their sessions, each session in two of them."""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from vla_server_base.errors import Unavailable, VLAError
from vla_server_base.fleet.cluster import reason_of
from vla_server_base.fleet.losses import LOST
from vla_server_base.fleet.session_store_actor import SessionStoreActor
from vla_server_base.sessions.store import SessionKey, SessionStore, StoredSession, newest

logger = logging.getLogger(__name__)

NAMESPACE = "vla-servers"
NUM_COPIES = 2

# No processor, which the replicas may have taken all; and not nothing: a machine with a store is not idle to an
# autoscaler.
_MEMORY_BYTES = 2**20
_RECOVERY_S = 60.0
"""For how long a request waits for a store in the place of one that was lost; an idle machine starts it in 4 s."""
_WAIT_S = 0.1


class ClusterSessionStore(SessionStore):
    """The stores of an application, for one of its servers.

    A session is kept in two of them, which start on different machines where there are several. One that is lost starts
    again, empty, and gets its sessions back as they go on; it starts elsewhere if its machine is lost.
    """

    def __init__(self, application: str, num_stores: int, max_bytes: int, idle_s: float):
        actor: Any = ray.remote(SessionStoreActor)
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        self._stores: Sequence[ActorHandle] = [
            actor.options(
                name=store_name(application, number),
                namespace=NAMESPACE,
                get_if_exists=True,
                lifetime="detached",
                max_restarts=-1,
                num_cpus=0,
                memory=_MEMORY_BYTES,
                # Where it starts again, too, so that the two copies of a session stay on different machines.
                scheduling_strategy=NodeAffinitySchedulingStrategy(nodes[number % len(nodes)], soft=True),
            ).remote(max_bytes // num_stores, idle_s)
            for number in range(num_stores)
        ]

    async def load_newer(self, key: SessionKey, version: int) -> StoredSession | None:
        answers = await asyncio.gather(*(_ask(each.load_newer, key, version) for each in self._of(key)))
        return newest(answers, version)

    async def save(self, key: SessionKey, version: int, content: bytes | None) -> bool:
        # One after the other: of two servers, the one that the first store turns down must not reach the second.
        for each in self._of(key):
            if not await _ask(each.save, key, version, content):
                return False
        return True

    def _of(self, key: SessionKey) -> Sequence[ActorHandle]:
        """Return the stores of a session, the one that decides first."""
        digest = hashlib.sha256("\n".join(key).encode()).digest()
        first = int.from_bytes(digest[:8], "big") % len(self._stores)
        num_copies = min(NUM_COPIES, len(self._stores))
        return [self._stores[(first + offset) % len(self._stores)] for offset in range(num_copies)]


def store_name(application: str, number: int) -> str:
    """Return the name of an application's store, by which all its servers find it."""
    return f"{application}-sessions-{number}"


def end_stores(application: str, num_stores: int) -> None:
    """End the stores of an application that no longer runs."""
    for number in range(num_stores):
        with contextlib.suppress(ValueError):  # no server has started it
            ray.kill(ray.get_actor(store_name(application, number), namespace=NAMESPACE))


async def _ask(method: Any, *arguments: object) -> Any:
    """Return a store's answer, and ask again while it is being replaced.

    Raises:
        Unavailable: it was not replaced in time.
    """
    began = time.monotonic()
    while True:
        try:
            answer = await method.remote(*arguments)
        except LOST as error:
            logger.warning("a session store was lost: %s", reason_of(error))
            if time.monotonic() - began > _RECOVERY_S:
                raise Unavailable(
                    "the session store does not answer", hint="send it again later; `ray list actors` shows its state"
                ) from error
        else:
            if isinstance(answer, VLAError):
                raise answer
            return answer
        await asyncio.sleep(_WAIT_S)
