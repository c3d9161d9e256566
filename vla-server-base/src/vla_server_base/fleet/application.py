"""The application that Ray Serve deploys: a policy's model and its servers, each a deployment."""

import os
import pkgutil
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve.schema import LoggingConfig

from vla_server_base.config import ConfigError, ServerConfig, config_from_environment
from vla_server_base.fleet.autoscaling import POLICY
from vla_server_base.fleet.ingress import Ingress
from vla_server_base.fleet.model_deployment import MODEL
from vla_server_base.fleet.model_replica import ModelReplica
from vla_server_base.fleet.server_process import ServerOrder
from vla_server_base.fleet.settings import FleetSettings

INGRESS = "ingress"

_NO_LIMIT = 10_000
"""Requests that wait are the engine's to order and refuse, not Serve's."""
_ENDING_S = 10.0
"""How much longer than a server's own grace its end may take."""
_CHECK_S, _CHECK_TIMEOUT_S = 1.0, 30.0
_LOOK_BACK_S, _UPSCALE_DELAY_S, _DOWNSCALE_DELAY_S = 15.0, 5.0, 300.0
_ROUTER = {
    "request_router_class": "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter",
    # Another replica gives the same answer, later: it has nothing of the session in its caches.
    "request_router_kwargs": {"num_fallback_replicas": 2},
}


def application(args: Mapping[str, Any]) -> serve.Application:
    """Return the application of a Serve config file.

    `args` has `program`, such as `octo_service.program:OCTO`, and fields of FleetSettings; the settings of the server
    and of the policy are variables of the environment (`runtime_env`), as for a server that runs alone.

    Raises:
        ConfigError: an argument or a setting that cannot be.
    """
    if "program" not in args:
        raise ConfigError("args have no program", hint="name one: program: octo_service.program:OCTO")
    program = pkgutil.resolve_name(args["program"])
    fields = {f"FLEET_{name.upper()}": str(value) for name, value in args.items() if name != "program"}
    policy, server = program.config_from_environment(), config_from_environment(ServerConfig, "VLA")
    fleet = config_from_environment(FleetSettings, "FLEET", {**os.environ, **fields})
    return build(program.adapter, policy, server, fleet)


def build(
    adapter: str,
    policy: Any,
    server: ServerConfig,
    fleet: FleetSettings,
    runtime_env: Mapping[str, Any] | None = None,
) -> serve.Application:
    """Return the application that serves `adapter`, as `module:name`, which is constructed with the settings `policy`.

    `runtime_env` is what its processes run in, by default what this program does.
    """
    order = ServerOrder(adapter=adapter, policy=policy, server=server, fleet=fleet)
    environment = {"runtime_env": dict(runtime_env)} if runtime_env else {}
    # A new replica starts before the old one ends, also in an update.
    shared: dict[str, Any] = {
        "health_check_period_s": _CHECK_S,
        "health_check_timeout_s": _CHECK_TIMEOUT_S,
        "max_surge_percent": 100,
        "graceful_shutdown_wait_loop_s": 0.1,
        "logging_config": LoggingConfig(enable_access_log=False),
    }
    model = serve.deployment(
        name=MODEL,
        max_ongoing_requests=_NO_LIMIT,
        request_router_config=_ROUTER,
        ray_actor_options={"num_cpus": fleet.model_cpus, "num_gpus": fleet.model_gpus, **environment},
        **shared,
        **_num_replicas(fleet),
    )(ModelReplica)
    ingress = serve.deployment(
        name=INGRESS,
        num_replicas=fleet.ingress_replicas,
        ray_actor_options={"num_cpus": fleet.ingress_cpus, **environment},
        graceful_shutdown_timeout_s=server.shutdown_grace_s + _ENDING_S,
        **shared,
    )(Ingress)
    return ingress.bind(order, model.bind(adapter, policy, server))


def _num_replicas(fleet: FleetSettings) -> dict[str, Any]:
    """Return how many copies of the model there are, or between which numbers Serve chooses by their load."""
    if fleet.max_model_replicas <= fleet.model_replicas:
        return {"num_replicas": fleet.model_replicas}
    return {
        "autoscaling_config": {
            "min_replicas": fleet.model_replicas,
            "max_replicas": fleet.max_model_replicas,
            "look_back_period_s": _LOOK_BACK_S,
            "upscale_delay_s": _UPSCALE_DELAY_S,
            "downscale_delay_s": _DOWNSCALE_DELAY_S,
            "policy": {"policy_function": POLICY},
        }
    }
