"""A server process of the fleet: every protocol on its own sockets, the policy on the cluster.

`Ingress` starts it as `python -m vla_server_base.fleet.server_process`, writes a `ServerOrder` to its standard input,
and keeps that open: when it closes, the one that supervised this process is gone, and it ends, too.
"""

import functools
import os
import pickle
import pkgutil
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from typing import Any

import ray
import uvicorn

from vla_server_base.access.binding import check_binding
from vla_server_base.config import ServerConfig
from vla_server_base.errors import VLAError
from vla_server_base.fleet.model_deployment import ModelDeployment
from vla_server_base.fleet.ray_engine import RayEngine
from vla_server_base.fleet.scene_worker import RaySceneWorker
from vla_server_base.fleet.session_stores import ClusterSessionStore
from vla_server_base.fleet.settings import FleetSettings
from vla_server_base.fleet.shared_port import SharedPort
from vla_server_base.scenes.worker_process import WorkerProcess
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.backend import Backend
from vla_server_base.server.program import configure_logging

READY = b"ready\n"


@dataclass(frozen=True, kw_only=True)
class ServerOrder:
    """What one server process serves: an application's model, on a port that it shares with others on its machine."""

    adapter: str
    policy: Any
    server: ServerConfig
    fleet: FleetSettings
    application: str = ""
    """Set by the replica that supervises the server."""


def main() -> None:
    """Serve until told to end, or until nobody supervises this process."""
    order: ServerOrder = pickle.load(sys.stdin.buffer)
    address = os.environ["RAY_ADDRESS"]
    threading.Thread(target=_end_with_supervisor, args=(sys.stdin.fileno(),), name="supervisor", daemon=True).start()
    configure_logging(order.server)
    # The actors that this process starts need its packages, and a replica has no other Python than its server.
    runtime_env = {"py_executable": sys.executable}
    ray.init(address, namespace="serve", runtime_env=runtime_env, log_to_driver=False, configure_logging=False)
    try:
        _serve(order)
    except VLAError as error:
        print(error.as_sentence(), file=sys.stderr)
        sys.exit(1)


def _serve(order: ServerOrder) -> None:
    config = order.server
    check_binding(config, config.host)
    num_cpus = order.fleet.scene_cpus
    backend = Backend(
        launch_scene_worker=(
            functools.partial(RaySceneWorker.launch, num_cpus=num_cpus) if num_cpus else WorkerProcess.launch
        ),
        shares_port=True,
        session_store=ClusterSessionStore(
            order.application, order.fleet.session_stores, config.session_mb * 2**20, config.session_idle_s
        ),
        make_engine=functools.partial(RayEngine, model=ModelDeployment(order.application)),
    )
    adapter = pkgutil.resolve_name(order.adapter)(order.policy)
    app = create_vla_app(adapter, config, model_id=order.policy.model, backend=backend)
    port = SharedPort(config.host, config.port, f"{order.application} of the cluster at {os.environ['RAY_ADDRESS']}")
    # Port 0: uvicorn is given the socket, and no other program need free the port.
    server = _ReportingServer(uvicorn.Config(app, host=config.host, port=0, log_config=None, workers=1))
    server.run(sockets=[port.socket])


class _ReportingServer(uvicorn.Server):
    """Tells its supervisor once it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        sys.stdout.buffer.write(READY)
        sys.stdout.flush()


def _end_with_supervisor(lifeline: int) -> None:
    os.read(lifeline, 1)  # not by the buffered file: at the end of this process it would be found locked
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
