"""create_vla_app: one policy as an HTTP service."""

from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match

from vla_server_base import __version__
from vla_server_base.access.access import Access
from vla_server_base.access.tls import certificate_of
from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.episodes.scene_cameras import scene_cameras
from vla_server_base.errors import MethodNotAllowed, NotFound, RequestError, VLAError
from vla_server_base.monitoring.monitor import monitor_of_environment
from vla_server_base.protocols.known_keys import lab_keys
from vla_server_base.recordings.recorder import check_recordable
from vla_server_base.schemas.episode import EpisodePatch, SteeredEpisodeRequest
from vla_server_base.schemas.execute import ExecuteRequest
from vla_server_base.schemas.geometry import GeometryRequest
from vla_server_base.schemas.models import LoadModelRequest, ServeModelRequest
from vla_server_base.schemas.predict import PredictRequest
from vla_server_base.schemas.problems import request_error_from_validation
from vla_server_base.server import (
    episodes,
    execute,
    geometry,
    load,
    login,
    metrics,
    models,
    predict,
    routes,
    session_events,
    tabletop,
)
from vla_server_base.server.backend import Backend
from vla_server_base.server.console import console_routes
from vla_server_base.server.doorkeeper import Doorkeeper
from vla_server_base.server.error_replies import client_error, refusal_response
from vla_server_base.server.host import lifespan_in_one_sentence
from vla_server_base.server.lifespan import Lifespan, own_ports
from vla_server_base.server.middleware import RequestMiddleware
from vla_server_base.server.openapi import openapi_schema
from vla_server_base.server.origins import Origins
from vla_server_base.server.traffic import Traffic
from vla_server_base.server.transports import act, kserve, websocket
from vla_server_base.source_code import SourceCode

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def create_vla_app(
    adapter: VLAModelAdapter,
    config: ServerConfig,
    *,
    model_id: str,
    make_adapter: Callable[[str], VLAModelAdapter] | None = None,
    backend: Backend | None = None,
) -> FastAPI:
    """Return an app that serves `adapter`, which loads `model_id` when the app starts.

    `make_adapter` makes an adapter for another checkpoint, which `POST /models` loads while the server runs.
    `backend` is where the policy runs, by default in this process.

    Raises:
        ConfigError: a setting that cannot be.

    >>> app = create_vla_app(EchoAdapter(), ServerConfig(), model_id="echo")  # then: uvicorn module:app
    """
    scene_cameras(config)
    access, origins, monitor = Access(config), Origins(config), monitor_of_environment(__version__)
    access.check_name("VLA_LEROBOT_KEY", config.lerobot_key)
    if config.record:
        check_recordable()
    traffic = Traffic(config, monitor)
    lifespan = Lifespan(
        adapter=adapter,
        model_id=model_id,
        make_adapter=make_adapter,
        config=config,
        observation_keys=lab_keys(config),
        own_ports=own_ports(config),
        access=access,
        certificate=certificate_of(config),
        traffic=traffic,
        monitor=monitor,
        code=SourceCode.of(adapter),
        backend=backend or Backend(),
    )

    # FastAPI, with the scripts of /docs and /redoc served from here: robots' networks often lead nowhere else.
    app = FastAPIOffline(
        title=f"VLA server: {model_id}", version=__version__, lifespan=lifespan, redirect_slashes=False
    )
    # Before the plain page at the same address.
    app.router.routes.extend(console_routes(config, model_id))
    app.state.config = config
    rooms = (predict, execute, episodes, geometry, routes, session_events, load, metrics, login, models, tabletop)
    for each in (*rooms, act, kserve, websocket):
        app.include_router(each.router)
    app.router.default = websocket.not_found_app(app.router.default)
    if origins.allowed:
        app.add_middleware(CORSMiddleware, allow_origins=origins.allowed, allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(
        RequestMiddleware,
        origins=origins,
        doorkeeper=Doorkeeper(access, origins) if access.has_keys else None,
        bodies=traffic.bodies,
        monitor=monitor,
        lifespan=lifespan_in_one_sentence,
    )
    app.add_exception_handler(VLAError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    bodies = (PredictRequest, ExecuteRequest, SteeredEpisodeRequest, EpisodePatch, GeometryRequest)
    app.openapi = lambda: openapi_schema(app, *bodies, LoadModelRequest, ServeModelRequest)
    _build_routes(app)
    return app


def _build_routes(app: FastAPI) -> None:
    """Have FastAPI build the included routes now: by itself it does so at the first request.

    It mutes warnings of pydantic meanwhile, by filters that all threads share, such as the one that loads the model.
    """
    for route in app.routes:
        route.matches({"type": "http", "method": "GET", "path": "/", "headers": []})


async def _answer_error(request: Request, error: Exception) -> Response:
    return refusal_response(request, client_error(error))


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    """Give the framework's own errors (no such route, wrong method) the form of ours."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:80]
    known: VLAError
    if error.status_code == 404:
        known = NotFound(f"there is nothing at {path}", hint="GET /docs lists the routes")
    elif error.status_code == 405:
        allowed = ", ".join(_allowed_methods(request))
        known = MethodNotAllowed(f"{path} does not accept {request.method}", hint=f"it accepts: {allowed}")
        return refusal_response(request, known, {"Allow": allowed})
    else:
        known = RequestError(str(error.detail), hint="GET /docs describes each request")
    return refusal_response(request, known, error.headers)


def _allowed_methods(request: Request) -> list[str]:
    """Return what an address accepts by all its routes; the framework's own list is that of the first one."""
    routes = request.app.routes
    return [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]


async def _answer_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return refusal_response(request, request_error_from_validation(error.errors()))
