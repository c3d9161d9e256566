"""A Ray cluster: one that runs already, or one on this machine for as long as it is used."""

import logging
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from vla_server_base.config import ConfigError

ANSWER_S = 5.0
"""Within which a cluster's address answers; Ray itself would try for minutes."""

OBJECT_STORE_BYTES = 200 * 2**20
"""Of a cluster on this machine: what crosses it are observations, actions and results."""

MAX_STARTS = 3
"""Attempts to start a node on this machine in time."""

TOO_SLOW = "timed out during startup"
"""What Ray says of a node that was not, in a plain `Exception`."""

HOW_TO_START = "give HOST:PORT of a running cluster's head, or auto on one of its machines; `ray status` says more"
WHY_NO_START = "end what keeps this machine busy, and try again; the raylet's log in session_latest/logs says more"

logger = logging.getLogger(__name__)
Started = TypeVar("Started")


@contextmanager
def connected(address: str, *, num_cpus: int | None = None, shows_logs: bool = False) -> Iterator[None]:
    """Be connected with a cluster within the block; without an address with one of this machine, which then ends.

    `num_cpus` is how many processors a cluster of this machine counts; by default as many as there are. With
    `shows_logs` what its processes write comes to standard error.

    Raises:
        ConfigError: there is none at the address, or one of another Ray or Python; or none can be started here.
    """
    shown: dict[str, Any] = {"namespace": "serve", "logging_level": logging.ERROR, "log_to_driver": shows_logs}
    _check_answers(address)
    try:
        if address:
            ray.init(address=address, **shown)
        else:
            here = {"address": "local", "include_dashboard": False, "num_cpus": num_cpus}
            start_node(lambda: ray.init(**here, object_store_memory=OBJECT_STORE_BYTES, **shown))
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        ray.shutdown()  # of what was begun
        raise _cannot_connect(address, error) from error
    try:
        yield
    finally:
        ray.shutdown()


def start_node(start: Callable[[], Started]) -> Started:
    """Return what starts a node on this machine, which is tried again where the node was too slow.

    Ray gives a node 30 s, always. The first on a machine reads and compiles all of Ray; the next finds that done.

    Raises:
        RuntimeError: it was too slow at each attempt.
    """
    for attempt in range(1, MAX_STARTS + 1):
        try:
            return start()
        except Exception as error:  # noqa: PERF203
            if TOO_SLOW not in str(error):
                raise
            logger.warning("Ray did not start within its 30 s (attempt %d of %d)", attempt, MAX_STARTS)
    raise RuntimeError(f"Ray did not start within its 30 s, {MAX_STARTS} times")


def start_serve() -> None:
    """Have Ray Serve run on the cluster, without its own HTTP: each server process has its sockets."""
    from ray import serve  # takes as long to import as all of Ray

    serve.start(proxy_location="Disabled")


def environment_of_actors() -> Mapping[str, Any]:
    """Return the runtime environment in which a cluster's actors find this program.

    On a cluster of this machine alone that is this program's own, wherever Ray was started from. Other machines have
    their own, usually that of their image.
    """
    here = ray.util.get_node_ip_address()
    is_here = all(node["NodeManagerAddress"] == here for node in ray.nodes() if node["Alive"])
    return {"py_executable": sys.executable} if is_here else {}


def lost_nodes() -> frozenset[str]:
    """Return the ids of the machines that the cluster had and has no more."""
    return frozenset(node["NodeID"] for node in ray.nodes() if not node["Alive"])


async def answer(reference: Any) -> Any:
    """Await an actor's answer.

    Raises:
        RayError: the actor is lost, or cannot be reached; what its own code raises is raised as it is.
    """
    try:
        return await reference
    except RayTaskError as error:
        raise error.cause from None


def reason_of(error: BaseException) -> str:
    """Return the last line of an error of Ray's, which says the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _check_answers(address: str) -> None:
    """Refuse an address at which nothing listens, and one that Ray's client would use."""
    if "://" in address:
        raise ConfigError(f"'{address}' is not the address of a cluster's head", hint=HOW_TO_START)
    host, separator, port = address.rpartition(":")
    if not separator:  # none, or auto
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(f"no Ray cluster answers at {address} ({error})", hint=HOW_TO_START) from error


def _cannot_connect(address: str, error: Exception) -> ConfigError:
    where = f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"
    releases = re.findall(r"(?:Ray|Python): (\S+)", str(error))
    if len(releases) == 4:
        ray_there, python_there, ray_here, python_here = releases
        return ConfigError(
            f"{where} runs Ray {ray_there} and Python {python_there},"
            f" this program Ray {ray_here} and Python {python_here}",
            hint="start its nodes with the environment of this program, or run this program in theirs",
        )
    hint = HOW_TO_START if address else WHY_NO_START
    return ConfigError(f"cannot connect to {where}: {str(error).splitlines()[0]}", hint=hint)
