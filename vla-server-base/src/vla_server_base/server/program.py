"""A program that serves one app: its log, and one sentence where it cannot start."""

import logging
import os
import sys
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from vla_server_base.config import ServerConfig, config_from_environment
from vla_server_base.errors import VLAError
from vla_server_base.server.host import SeveralWorkers


def app_for_uvicorn(make: Callable[[ServerConfig], FastAPI]) -> FastAPI:
    """Return the app of a module that `uvicorn module:app` imports, with the settings of the environment.

    Where it cannot be made, the process ends with a sentence and the exit code that supervisors do not try again.

    >>> app = app_for_uvicorn(lambda config: create_vla_app(EchoAdapter(), config, model_id="echo"))
    """
    try:
        config = config_from_environment(ServerConfig, "VLA")
        configure_logging(config.log_level)
        return make(config)
    except VLAError as error:
        print(error.as_sentence(), file=sys.stderr)
        sys.exit(STARTUP_FAILURE)


def serve(app: FastAPI) -> None:
    """Serve a VLA app where its settings say, until it is stopped: all that this process does.

    Raises:
        SeveralWorkers: several processes are asked for.
        SystemExit: the app cannot start; the log says why.
    """
    config: ServerConfig = app.state.config
    configure_logging(config.log_level)
    if (num_workers := os.environ.get("WEB_CONCURRENCY", "")) not in ("", "0", "1"):
        raise SeveralWorkers(num_workers)
    uvicorn.run(app, host=config.host, port=config.port, log_config=None, workers=1)


def configure_logging(level: str) -> None:
    """Log in one form, uvicorn's lines too; where somebody has configured the log already, theirs stays."""
    if logging.getLogger().hasHandlers():
        return
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in ("uvicorn", "uvicorn.error"):
        own = logging.getLogger(name)
        own.handlers.clear()
        own.propagate = True
        if own.level == logging.INFO:  # uvicorn's default
            own.setLevel(logging.NOTSET)
