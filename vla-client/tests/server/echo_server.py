"""A server with the echo policy."""

from fastapi import FastAPI

from vla_server_base.config import ServerConfig
from vla_server_base.server.app import create_vla_app
from vla_server_base.testing import EchoAdapter


def echo_app(**settings) -> FastAPI:
    return create_vla_app(EchoAdapter(), ServerConfig(scene_workers=1, **settings), model_id="echo")
