"""create_vla_app: one policy as an HTTP service."""

import asyncio
import contextlib
import functools
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match

from vla_server_base import __version__
from vla_server_base.access.access import Access
from vla_server_base.access.binding import check_binding
from vla_server_base.access.tls import certificate_of
from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.cache_folder import writable_cache
from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicySpec
from vla_server_base.engine.engine import Engine
from vla_server_base.engine.engines import Engines
from vla_server_base.episodes.scene_cameras import check_scene_cameras, scene_cameras
from vla_server_base.errors import MethodNotAllowed, ModelUnavailable, NotFound, RequestError, VLAError
from vla_server_base.fairness.precedence import Precedence
from vla_server_base.fairness.rates import RateLimits
from vla_server_base.fairness.shared_device import SharedDevice
from vla_server_base.fairness.threads import FairThreads, num_threads, num_threads_per_client
from vla_server_base.models.models import Models
from vla_server_base.monitoring.monitor import Monitoring, monitor_of_environment
from vla_server_base.protocols.known_keys import check_lab_keys, lab_keys
from vla_server_base.recordings.recorder import SessionsRecorder, check_recordable
from vla_server_base.scenes.content_stores import AssetStore, GeometryStore, SceneStore
from vla_server_base.scenes.pool import ScenePool
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
from vla_server_base.server.console import console_routes
from vla_server_base.server.doorkeeper import Doorkeeper
from vla_server_base.server.ending import Ending
from vla_server_base.server.error_replies import client_error, refusal_response
from vla_server_base.server.host import Host, lifespan_in_one_sentence
from vla_server_base.server.in_flight import Shutdown
from vla_server_base.server.middleware import RequestMiddleware
from vla_server_base.server.openapi import openapi_schema
from vla_server_base.server.origins import Origins
from vla_server_base.server.service import Service, start_pool
from vla_server_base.server.slots import Slots
from vla_server_base.server.steered_episodes import SteeredEpisodes
from vla_server_base.server.step_encoder import StepEncoder
from vla_server_base.server.traffic import Traffic
from vla_server_base.server.transports import act, kserve, websocket
from vla_server_base.sessions.recorded_step import SessionRecorder
from vla_server_base.sessions.registry import Sessions
from vla_server_base.source_code import SourceCode

logger = logging.getLogger(__name__)

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# Python's own 5 ms are what the event loop and the device thread wait, again and again, for each thread that computes.
_SWITCH_INTERVAL_S = 0.0005


def create_vla_app(
    adapter: VLAModelAdapter,
    config: ServerConfig,
    *,
    model_id: str,
    make_adapter: Callable[[str], VLAModelAdapter] | None = None,
) -> FastAPI:
    """Return an app that serves `adapter`, which loads `model_id` when the app starts.

    `make_adapter` makes an adapter for another checkpoint, which `POST /models` loads while the server runs.

    Raises:
        ConfigError: a setting that cannot be.

    >>> app = create_vla_app(EchoAdapter(), ServerConfig(), model_id="echo")  # then: uvicorn module:app
    """

    keys = lab_keys(config)
    scene_cameras(config)
    own_ports = _own_ports(config)
    monitor, code = monitor_of_environment(__version__), SourceCode.of(adapter)
    access, certificate = Access(config), certificate_of(config)
    access.check_name("VLA_LEROBOT_KEY", config.lerobot_key)
    if config.record:
        check_recordable()
    origins, traffic = Origins(config), Traffic(config, monitor)
    doorkeeper = Doorkeeper(access, origins) if access.has_keys else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with writable_cache(config.cache_dir) as cache_dir:
            async with running(app, replace(config, cache_dir=cache_dir)):
                yield

    @asynccontextmanager
    async def running(app: FastAPI, config: ServerConfig) -> AsyncIterator[None]:
        host = Host()
        host.prepare(config, traffic, certificate)
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        precedence = Precedence()
        asyncio.get_running_loop().set_default_executor(
            FairThreads(num_threads(), "vla-reading", num_threads_per_client(), precedence)
        )
        recorder = None
        if config.record:
            recorder = SessionsRecorder(config, lambda: routes.info(app.state.service).model_dump(mode="json"))
        recorder_of = recorder.of if recorder else _no_recorder
        held = _first_model(adapter, config, model_id, make_adapter, monitor, precedence, recorder_of)
        pool = ScenePool(config, monitor)
        pool_start = asyncio.create_task(start_pool(pool))
        shutdown = Shutdown()
        slots = Slots(config.max_episodes, "episodes are running", "VLA_MAX_EPISODES")
        steered = SteeredEpisodes(slots, config, shutdown)
        app.state.service = Service(
            config=config,
            models=held,
            pool=pool,
            pool_start=pool_start,
            assets=AssetStore(config.asset_store_mb * 2**20),
            scenes=SceneStore(config.scene_store_mb * 2**20),
            geometries=GeometryStore(config.geometry_store_mb * 2**20),
            episodes=slots,
            steered=steered,
            watchers=Slots(config.max_watchers, "pages and programs watch sessions", "VLA_MAX_WATCHERS"),
            step_encoder=StepEncoder(session_events.step_event),
            connections=Slots(config.max_connections, "connections are open", "VLA_MAX_CONNECTIONS"),
            sessions=held.sessions,
            recorder=recorder,
            code=code,
            observation_keys=keys,
            traffic=traffic,
            rates=RateLimits(config.max_rate),
            precedence=precedence,
            shutdown=shutdown,
            access=access,
            monitor=monitor,
        )
        background = (traffic.watch(), steered.close_at_shutdown(), held.watch())
        watching = [asyncio.create_task(each) for each in background]
        ending = Ending(host, app.state.service)
        host.take_signals(ending.begin, longest_s=ending.longest_s, last=ending.kill_workers)
        try:
            async with contextlib.AsyncExitStack() as stack:
                for open_port in own_ports:
                    await stack.enter_async_context(open_port(app.state.service))
                held.engines.serving.start()
                failure = asyncio.create_task(_end_where_nothing_is_loaded(app.state.service, host))
                stack.callback(failure.cancel)
                yield
        finally:
            host.close()
            app.state.service.step_encoder.close()
            app.state.service.scraping.shutdown(wait=False)
            for each in watching:
                each.cancel()
            await steered.close()
            await ending.cut()
            await asyncio.wait(watching)
            if recorder is not None:
                await asyncio.to_thread(recorder.close)
            await asyncio.to_thread(monitor.close)

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
        doorkeeper=doorkeeper,
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


def _first_model(
    adapter: VLAModelAdapter,
    config: ServerConfig,
    model_id: str,
    make_adapter: Callable[[str], VLAModelAdapter] | None,
    monitor: Monitoring,
    precedence: Precedence,
    recorder_of: Callable[[str, str], SessionRecorder | None],
) -> Models:
    """Return what holds the first model, and others beside it."""
    device = SharedDevice()

    def make_engine(checkpoint: str, name: str, check_contract: Callable[[PolicySpec], None]) -> Engine:
        def check_spec(spec: PolicySpec) -> None:
            _check_names(config, spec)
            check_contract(spec)

        assert make_adapter is not None, "models are loaded only where there is one"
        # Whoever waits for it can ask again; other loads wait, too.
        once = replace(config, load_retry_s=0)
        return Engine(
            make_adapter(checkpoint),
            once,
            checkpoint,
            name=name,
            check_spec=check_spec,
            shared_device=device,
            is_later=True,
            monitor=monitor,
            precedence=precedence,
        )

    check_spec = functools.partial(_check_names, config)
    first = Engine(
        adapter,
        config,
        model_id,
        check_spec=check_spec,
        shared_device=device,
        monitor=monitor,
        precedence=precedence,
    )
    engines = Engines(first)
    sessions = Sessions(engines, config, recorder_of=recorder_of)
    return Models(engines, sessions, config, make_engine if make_adapter else None)


def _check_names(config: ServerConfig, spec: PolicySpec) -> None:
    """Refuse settings that name what this policy does not have."""
    check_lab_keys(config, spec)
    check_scene_cameras(config, spec)


def _build_routes(app: FastAPI) -> None:
    """Have FastAPI build the included routes now: by itself it does so at the first request.

    It mutes warnings of pydantic meanwhile, by filters that all threads share, such as the one that loads the model.
    """
    for route in app.routes:
        route.matches({"type": "http", "method": "GET", "path": "/", "headers": []})


async def _end_where_nothing_is_loaded(service: Service, host: Host) -> None:
    """Let a supervisor see that the model cannot be loaded, unless the server is to stay."""
    try:
        await service.policy_loaded()
    except ModelUnavailable:
        if service.config.on_load_failure == "exit":
            host.end()


def _own_ports(config: ServerConfig) -> list[Callable[[Service], AbstractAsyncContextManager[int]]]:
    """Return what opens the separate ports of some transports; their libraries are extras."""
    listeners = []
    if config.zmq_port:
        check_binding(config, config.host)
        from vla_server_base.server.transports.gr00t_zmq import serving_gr00t

        listeners.append(functools.partial(serving_gr00t, host=config.host, port=config.zmq_port))
    if config.lerobot_port:
        from vla_server_base.server.transports.lerobot_grpc import serving_lerobot

        listeners.append(functools.partial(serving_lerobot, port=config.lerobot_port))
    return listeners


def _no_recorder(_session_id: str, _client: str) -> None:
    return None


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
