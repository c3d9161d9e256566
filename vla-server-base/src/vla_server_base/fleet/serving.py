"""`serve --engine ray`: an application on a cluster, until it is stopped."""

import logging
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
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with connected(fleet.address, shows_logs=True):
        start_serve()
        application = build(adapter, policy, server, fleet, environment_of_actors())
        try:
            _deploy(application, name)
            logger.info("%s answers on port %d of %d server processes", name, server.port, fleet.ingress_replicas)
            ended.wait()
        finally:
            serve.delete(name)
            end_stores(name, fleet.session_stores)


def _deploy(application: serve.Application, name: str) -> None:
    try:
        serve.run(application, name=name, route_prefix=None)
    except RuntimeError as error:
        raise ModelUnavailable(
            f"{name} cannot be deployed: {failure_of(name) or str(error).splitlines()[0]}",
            hint="the lines above have the replicas' logs",
        ) from error
