"""`octo-service serve`: Octo over HTTP, until it is stopped."""

from fastapi import FastAPI

from octo_service.adapter import OctoSmallAdapter
from octo_service.commands.options import Serve
from octo_service.config import OctoConfig
from vla_server_base.config import ServerConfig
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.program import serve


def run(options: Serve) -> None:
    """Serve until stopped."""
    serve(create_app(options.server, options.octo))


def create_app(server: ServerConfig, octo: OctoConfig) -> FastAPI:
    """Return the app that these settings describe."""
    return create_vla_app(OctoSmallAdapter(octo), server, model_id=octo.model)
