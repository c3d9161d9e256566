"""The app for uvicorn: `uvicorn octo_service.main:app`, configured by `VLA_*` and `OCTO_*` variables."""

from fastapi import FastAPI

from octo_service.commands.serve import create_app
from octo_service.config import OctoConfig
from vla_server_base.config import ServerConfig, config_from_environment
from vla_server_base.server.program import app_for_uvicorn


def _octo_app(server: ServerConfig) -> FastAPI:
    return create_app(server, config_from_environment(OctoConfig, "OCTO"))


app = app_for_uvicorn(_octo_app)
