"""`serve --engine ray`: an application on a cluster, until it is stopped."""

import logging
import math
import os
import signal
import threading
from typing import Any

from ray import serve

from vla_server_base.access.binding import check_binding
from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.errors import ModelUnavailable
from vla_server_base.fleet.application import build
from vla_server_base.fleet.cluster import connected, environment_of_actors, start_serve
from vla_server_base.fleet.model_deployment import failure_of
from vla_server_base.fleet.session_stores import end_stores
from vla_server_base.fleet.settings import FleetSettings
from vla_server_base.server.program import configure_logging

logger = logging.getLogger(__name__)


def serve_on_cluster(name: str, adapter: str, policy: Any, server: ServerConfig, fleet: FleetSettings) -> None:
    """Deploy an application named `name`, see `build`, and delete it when this process gets SIGTERM or Ctrl-C.

    Raises:
        ConfigError: there is no such cluster, the port is 0, or others could reach the server, and it has no keys.
        ModelUnavailable: the policy cannot be loaded, or a server cannot start.
    """
    configure_logging(server)
    check_binding(server, server.host)
    if server.port == 0:
        raise ConfigError("VLA_PORT=0: servers on a cluster share a port", hint="choose one")
    deployed, ended = threading.Event(), threading.Event()

    def end(*_: object) -> None:
        ended.set()
        if not deployed.is_set():
            raise KeyboardInterrupt  # Ray waits for a deployment without end

    with connected(fleet.address, num_cpus=_num_cpus(server, fleet), shows_logs=True):
        for number in (signal.SIGINT, signal.SIGTERM):  # in the place of Ray's, which aborts
            signal.signal(number, end)
        start_serve()
        application = build(adapter, policy, server, fleet, environment_of_actors())
        try:
            _deploy(application, name)
            deployed.set()
            logger.info("%s answers on port %d of %d server processes", name, server.port, fleet.ingress_replicas)
            ended.wait()
        except KeyboardInterrupt:
            logger.info("%s was stopped before all its replicas had started", name)
        finally:
            deployed.set()
            serve.delete(name)
            end_stores(name, fleet.session_stores)


def _num_cpus(server: ServerConfig, fleet: FleetSettings) -> int:
    """Return how many processors a cluster of this machine counts: as many as all replicas and scene workers reserve.

    A reservation would keep one waiting without end here, and shares nothing out.
    """
    models = max(fleet.model_replicas, fleet.max_model_replicas) * fleet.model_cpus
    servers = fleet.ingress_replicas * (fleet.ingress_cpus + server.scene_processes * fleet.scene_cpus)
    return max(os.cpu_count() or 1, math.ceil(models + servers))


def _deploy(application: serve.Application, name: str) -> None:
    try:
        serve.run(application, name=name, route_prefix=None)
    except RuntimeError as error:
        raise ModelUnavailable(
            f"{name} cannot be deployed: {failure_of(name) or str(error).splitlines()[0]}",
            hint="the lines above have the replicas' logs",
        ) from error
