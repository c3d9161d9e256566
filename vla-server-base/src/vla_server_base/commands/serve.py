"""`serve`: the policy over HTTP, until it is stopped."""

from dataclasses import replace

from fastapi import FastAPI

from vla_server_base.commands.options import Serve
from vla_server_base.commands.program import Config, PolicyProgram
from vla_server_base.config import ServerConfig
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.program import app_for_uvicorn, serve


def run(options: Serve[Config], program: PolicyProgram[Config]) -> None:
    """Serve until stopped."""
    serve(create_app(program, options.server, options.config))


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
