"""The app for uvicorn: `uvicorn octo_service.main:app`, configured by `VLA_*` and `OCTO_*` variables."""

from fastapi import FastAPI

from octo_service.adapter import OctoSmallAdapter
from octo_service.config import OctoConfig
from vla_server_base.app import create_vla_app
from vla_server_base.config import ServerConfig, config_from_environment
from vla_server_base.program import app_for_uvicorn


def _octo_app(server: ServerConfig) -> FastAPI:
    octo = config_from_environment(OctoConfig, "OCTO")
    return create_vla_app(OctoSmallAdapter(octo), server, model_id=octo.model)


app = app_for_uvicorn(_octo_app)
