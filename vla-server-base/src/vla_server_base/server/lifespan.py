"""The start and the end of a server: what is made, what runs meanwhile, and what has to end."""

import asyncio
import contextlib
import functools
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace

from fastapi import FastAPI

from vla_server_base.access.access import Access
from vla_server_base.access.binding import zmq_host
from vla_server_base.access.tls import TlsCertificate
from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.cache_folder import writable_cache
from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicySpec
from vla_server_base.engine.engine import Engine
from vla_server_base.engine.engines import Engines
from vla_server_base.episodes.scene_cameras import check_scene_cameras
from vla_server_base.errors import ModelUnavailable, Unavailable
from vla_server_base.fairness.precedence import Precedence
from vla_server_base.fairness.rates import RateLimits
from vla_server_base.fairness.shared_device import SharedDevice
from vla_server_base.fairness.threads import FairThreads, num_threads, num_threads_per_client
from vla_server_base.models.models import Models
from vla_server_base.monitoring.monitor import Monitoring
from vla_server_base.protocols.known_keys import check_lab_keys
from vla_server_base.recordings.recorder import SessionsRecorder
from vla_server_base.scenes.content_stores import AssetStore, GeometryStore, SceneStore
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.server import routes, session_events
from vla_server_base.server.backend import Backend
from vla_server_base.server.ending import Ending
from vla_server_base.server.host import Host
from vla_server_base.server.in_flight import Shutdown
from vla_server_base.server.service import Service, start_pool
from vla_server_base.server.slots import Slots
from vla_server_base.server.steered_episodes import SteeredEpisodes
from vla_server_base.server.step_encoder import StepEncoder
from vla_server_base.server.traffic import Traffic
from vla_server_base.sessions.recorded_step import SessionRecorder
from vla_server_base.sessions.registry import Sessions
from vla_server_base.source_code import SourceCode

# Python's own 5 ms are what the event loop and the device thread wait, again and again, for each thread that computes.
_SWITCH_INTERVAL_S = 0.0005

OwnPort = Callable[[Service], AbstractAsyncContextManager[int]]
"""Opens the separate port of a transport for the length of a block."""


@dataclass(frozen=True, kw_only=True)
class Lifespan:
    """What FastAPI runs around a server: it makes the service, and ends in good order all that it began.

    What can be wrong in the settings was checked when the app was made.
    """

    adapter: VLAModelAdapter
    model_id: str
    make_adapter: Callable[[str], VLAModelAdapter] | None
    config: ServerConfig
    observation_keys: Mapping[str, Sequence[str]]
    own_ports: Sequence[OwnPort]
    access: Access
    certificate: TlsCertificate | None
    traffic: Traffic
    monitor: Monitoring
    code: SourceCode
    backend: Backend

    @asynccontextmanager
    async def __call__(self, app: FastAPI) -> AsyncIterator[None]:
        """Serve within the block, with the cache in a folder that can be written."""
        with writable_cache(self.config.cache_dir) as cache_dir:
            async with replace(self, config=replace(self.config, cache_dir=cache_dir))._running(app):
                yield

    @asynccontextmanager
    async def _running(self, app: FastAPI) -> AsyncIterator[None]:
        host = Host(shares_port=self.backend.shares_port)
        host.prepare(self.config, self.traffic, self.certificate)
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        service = app.state.service = self._service(app)
        models, steered = service.models, service.steered
        background = (self.traffic.watch(), steered.close_at_shutdown(), models.watch())
        watching = [asyncio.create_task(each) for each in background]
        ending = Ending(host, service)
        host.take_signals(ending.begin, longest_s=ending.longest_s, last=ending.kill_workers)
        try:
            async with contextlib.AsyncExitStack() as stack:
                models.engines.serving.start()
                if self.backend.shares_port:
                    # Until this server can answer, the others at its address do.
                    with contextlib.suppress(Unavailable):
                        await service.policy_loaded()
                for open_port in self.own_ports:
                    await stack.enter_async_context(open_port(service))
                failure = asyncio.create_task(_end_where_nothing_is_loaded(service, host))
                stack.callback(failure.cancel)
                yield
        finally:
            host.close()
            service.step_encoder.close()
            service.scraping.shutdown(wait=False)
            for each in watching:
                each.cancel()
            await steered.close()
            await ending.cut()
            await asyncio.wait(watching)
            if service.recorder is not None:
                await asyncio.to_thread(service.recorder.close)
            await asyncio.to_thread(self.monitor.close)

    def _service(self, app: FastAPI) -> Service:
        """Make all that the routes use; the event loop's threads become fair."""
        config, precedence, shutdown = self.config, Precedence(), Shutdown(has_others=self.backend.shares_port)
        threads = FairThreads(num_threads(), "vla-reading", num_threads_per_client(), precedence)
        asyncio.get_running_loop().set_default_executor(threads)
        recorder = None
        if config.record:
            recorder = SessionsRecorder(config, lambda: routes.info(app.state.service).model_dump(mode="json"))
        models = self._models(precedence, recorder.of if recorder else _no_recorder)
        pool = ScenePool(config, self.monitor, launch=self.backend.launch_scene_worker)
        episodes = Slots(config.max_episodes, "episodes are running", "VLA_MAX_EPISODES")
        return Service(
            config=config,
            models=models,
            pool=pool,
            pool_start=asyncio.create_task(start_pool(pool)),
            assets=AssetStore(config.asset_store_mb * 2**20),
            scenes=SceneStore(config.scene_store_mb * 2**20),
            geometries=GeometryStore(config.geometry_store_mb * 2**20),
            episodes=episodes,
            steered=SteeredEpisodes(episodes, config, shutdown),
            watchers=Slots(config.max_watchers, "pages and programs watch sessions", "VLA_MAX_WATCHERS"),
            step_encoder=StepEncoder(session_events.step_event),
            connections=Slots(config.max_connections, "connections are open", "VLA_MAX_CONNECTIONS"),
            sessions=models.sessions,
            recorder=recorder,
            code=self.code,
            observation_keys=self.observation_keys,
            traffic=self.traffic,
            rates=RateLimits(config.max_rate),
            precedence=precedence,
            shutdown=shutdown,
            access=self.access,
            monitor=self.monitor,
        )

    def _models(self, precedence: Precedence, recorder_of: Callable[[str, str], SessionRecorder | None]) -> Models:
        """Return what holds the first model, and others beside it."""
        config, make_adapter = self.config, self.make_adapter
        make = functools.partial(
            self.backend.make_engine, shared_device=SharedDevice(), monitor=self.monitor, precedence=precedence
        )

        def make_engine(checkpoint: str, name: str, check_contract: Callable[[PolicySpec], None]) -> Engine:
            def check_spec(spec: PolicySpec) -> None:
                _check_names(config, spec)
                check_contract(spec)

            assert make_adapter is not None, "models are loaded only where there is one"
            # Whoever waits for it can ask again; other loads wait, too.
            once = replace(config, load_retry_s=0)
            return make(make_adapter(checkpoint), once, checkpoint, name=name, check_spec=check_spec, is_later=True)

        check_spec = functools.partial(_check_names, config)
        engines = Engines(make(self.adapter, config, self.model_id, check_spec=check_spec))
        sessions = Sessions(engines, config, store=self.backend.session_store, recorder_of=recorder_of)
        return Models(engines, sessions, config, make_engine if make_adapter else None)


def own_ports(config: ServerConfig) -> list[OwnPort]:
    """Return what opens the separate ports of some transports; their libraries are extras."""
    listeners = []
    if config.zmq_port:
        host = zmq_host(config)
        from vla_server_base.server.transports.gr00t_zmq import serving_gr00t

        listeners.append(functools.partial(serving_gr00t, host=host, port=config.zmq_port))
    if config.lerobot_port:
        from vla_server_base.server.transports.lerobot_grpc import serving_lerobot

        listeners.append(functools.partial(serving_lerobot, port=config.lerobot_port))
    return listeners


def _check_names(config: ServerConfig, spec: PolicySpec) -> None:
    """Refuse settings that name what this policy does not have."""
    check_lab_keys(config, spec)
    check_scene_cameras(config, spec)


async def _end_where_nothing_is_loaded(service: Service, host: Host) -> None:
    """Let a supervisor see that the model cannot be loaded, unless the server is to stay."""
    try:
        await service.policy_loaded()
    except ModelUnavailable:
        if service.config.on_load_failure == "exit":
            host.end()


def _no_recorder(_session_id: str, _client: str) -> None:
    return None
