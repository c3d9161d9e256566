"""`octo-service serve`: Octo over HTTP, until it is stopped."""

import gc
import logging

import uvicorn
from fastapi import FastAPI

from octo_service.adapter import OctoSmallAdapter
from octo_service.config import OctoConfig
from octo_service.options import Serve
from vla_server_base.app import create_vla_app
from vla_server_base.config import ServerConfig
from vla_server_base.serving import socket_settings


def run(options: Serve) -> None:
    """Serve until stopped."""
    config = options.server
    logging.basicConfig(level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    gc.freeze()  # what is imported stays, and is not to be looked through for garbage while the model is loaded
    uvicorn.run(
        create_app(config, options.octo),
        host=config.host,
        port=config.port,
        log_config=None,
        access_log=False,
        **socket_settings(config),
    )


def create_app(server: ServerConfig, octo: OctoConfig) -> FastAPI:
    """Return the app that these settings describe."""
    return create_vla_app(OctoSmallAdapter(octo), server, model_id=octo.model)
