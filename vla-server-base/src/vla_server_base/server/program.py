"""A program that serves one app: its log, and one sentence where the app cannot start."""

import logging
import os
import sys
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from vla_server_base.access.binding import check_binding
from vla_server_base.config import ServerConfig, config_from_environment
from vla_server_base.errors import VLAError
from vla_server_base.monitoring.logs import log_handler
from vla_server_base.server.host import SeveralWorkers


def app_for_uvicorn(make: Callable[[ServerConfig], FastAPI]) -> FastAPI:
    """Return the app of a module that `uvicorn module:app` imports, with the settings of the environment.

    Where it cannot be made, the process ends with a sentence, and with the exit code that supervisors do not retry.

    >>> app = app_for_uvicorn(lambda config: create_vla_app(EchoAdapter(), config, model_id="echo"))
    """
    try:
        config = config_from_environment(ServerConfig, "VLA")
        configure_logging(config)
        return make(config)
    except VLAError as error:
        print(error.as_sentence(), file=sys.stderr)
        sys.exit(STARTUP_FAILURE)


def serve(app: FastAPI) -> None:
    """Serve a VLA app at the address of its settings, until it is stopped: all that this process does.

    Raises:
        SeveralWorkers: several processes were requested.
        ConfigError: others could reach it, and it has no keys.
        SystemExit: the app cannot start; the log says why.
    """
    config: ServerConfig = app.state.config
    configure_logging(config)
    if (num_workers := os.environ.get("WEB_CONCURRENCY", "")) not in ("", "0", "1"):
        raise SeveralWorkers(num_workers)
    check_binding(config, config.host)
    uvicorn.run(app, host=config.host, port=config.port, log_config=None, workers=1)


def configure_logging(config: ServerConfig) -> None:
    """Log in one form, uvicorn's lines too, with each request's id; a log that is configured already stays as it is."""
    if logging.getLogger().hasHandlers():
        return
    logging.basicConfig(level=config.log_level.upper(), handlers=[log_handler(config.log_format)])
    for name in ("uvicorn", "uvicorn.error"):
        uvicorn_logger = logging.getLogger(name)
        uvicorn_logger.handlers.clear()
        uvicorn_logger.propagate = True
        if uvicorn_logger.level == logging.INFO:  # uvicorn's default
            uvicorn_logger.setLevel(logging.NOTSET)
