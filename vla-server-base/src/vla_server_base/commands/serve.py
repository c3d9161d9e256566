"""`serve`: the policy over HTTP, until it is stopped."""

from dataclasses import replace
from typing import Any

from fastapi import FastAPI

from vla_server_base.commands.options import Serve
from vla_server_base.commands.program import Config, PolicyProgram
from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.errors import UsageError
from vla_server_base.extras import how_to_install
from vla_server_base.fleet.settings import FleetSettings
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.program import app_for_uvicorn, serve


def run(options: Serve[Config], program: PolicyProgram[Config]) -> None:
    """Serve until stopped."""
    if options.engine == "ray":
        _serve_on_cluster(options, program)
        return
    if options.fleet != FleetSettings():
        raise UsageError("a cluster's flags are given without --engine ray", hint="add --engine ray")
    serve(create_app(program, options.server, options.config))


def _serve_on_cluster(options: Serve[Any], program: PolicyProgram[Any]) -> None:
    try:
        from vla_server_base.fleet.serving import serve_on_cluster
    except ImportError as error:
        raise ConfigError("--engine ray: Ray is not installed", hint=how_to_install("ray")) from error
    serve_on_cluster(options.fleet.name or program.name, program.adapter, options.config, options.server, options.fleet)


def create_app(program: PolicyProgram[Config], server: ServerConfig, config: Config) -> FastAPI:
    """Return the app that these settings describe."""
    return create_vla_app(
        program.make_adapter(config),
        server,
        model_id=config.model,
        # All settings are frozen dataclasses; their common base is not.
        make_adapter=lambda model: program.make_adapter(
            replace(config, model=model)  # pyright: ignore[reportArgumentType]
        ),
    )


def app_of(program: PolicyProgram[Config]) -> FastAPI:
    """Return the app for `uvicorn module:app`, with the settings of the environment; see `app_for_uvicorn`."""
    return app_for_uvicorn(lambda server: create_app(program, server, program.config_from_environment()))
