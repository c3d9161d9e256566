"""What one running server is made of; the lifespan puts it together, the routes use it."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from vla_server_base.access.access import Access
from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicySpec
from vla_server_base.engine.contract_differences import contract_differences
from vla_server_base.engine.engine import Engine
from vla_server_base.errors import RendererUnavailable
from vla_server_base.fairness.precedence import Precedence
from vla_server_base.fairness.rates import RateLimits
from vla_server_base.models.models import Models
from vla_server_base.monitoring.metrics import Metrics
from vla_server_base.monitoring.monitor import Monitoring
from vla_server_base.protocols.observations import ObservationReader
from vla_server_base.recordings.recorder import SessionsRecorder
from vla_server_base.scenes.content_stores import AssetStore, GeometryStore, SceneStore
from vla_server_base.scenes.messages import (
    Confinement,
    GltfReply,
    GltfRequest,
    RenderReply,
    RenderRequest,
    RolloutReply,
    RolloutRequest,
    Scene,
)
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.schemas.status import HealthReply
from vla_server_base.server.in_flight import Shutdown
from vla_server_base.server.slots import Slots
from vla_server_base.server.steered_episodes import SteeredEpisodes
from vla_server_base.server.step_encoder import StepEncoder
from vla_server_base.server.traffic import Traffic
from vla_server_base.sessions.registry import Sessions
from vla_server_base.source_code import SourceCode

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Service:
    """Policies behind an engine each, with the processes that draw scenes for them.

    `pool_start` is the start of these processes, which runs while the model loads; its result says
    why scenes cannot be rendered, if so. Images are answered all the same. `recorder` is None where nothing is
    recorded; `code` is what answers.
    """

    config: ServerConfig
    models: Models
    pool: ScenePool
    pool_start: "asyncio.Task[RendererUnavailable | None]"
    assets: AssetStore
    scenes: SceneStore
    geometries: GeometryStore
    episodes: Slots
    steered: SteeredEpisodes
    connections: Slots
    watchers: Slots
    step_encoder: StepEncoder
    sessions: Sessions
    observation_keys: Mapping[str, Sequence[str]]
    traffic: Traffic
    rates: RateLimits
    precedence: Precedence
    shutdown: Shutdown
    access: Access
    recorder: SessionsRecorder | None
    code: SourceCode
    monitor: Monitoring = field(default_factory=Monitoring)
    scraping: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "vla-metrics"))
    """The thread that writes /metrics: those that read requests may all be busy."""
    started_at: float = field(default_factory=time.monotonic)

    @property
    def engine(self) -> Engine:
        """The engine that takes new sessions now; another request may find another one."""
        return self.models.engines.serving

    @property
    def model_id(self) -> str:
        """The id of the model that takes new sessions."""
        return self.engine.id

    @property
    def metrics(self) -> Metrics:
        """What this app counts and measures."""
        return self.monitor.metrics

    @property
    def health(self) -> HealthReply:
        """Whether everything that can be ready is."""
        model = self.engine.status
        status, reason = "healthy", model.reason
        if self.shutdown.begun.is_set():
            status, reason = "stopping", "the server is shutting down"
        elif model.state != "loaded":
            status = model.state
        elif not self.pool_start.done():
            status, reason = "loading", "the scene workers are being started"
        return HealthReply(status=status, model=self.model_id, model_status=model.state, reason=reason)

    def reader_for(self, session_id: str, greeted: Engine | None = None) -> ObservationReader:
        """Return what reads a client's messages, for the model of its session.

        If there is no such session yet, that is the model that serves; or the one for which a connection was `greeted`,
        if the one that serves now has another contract.

        Raises:
            ModelUnavailable: it is not loaded.
        """
        engine = self.sessions.engine_of(session_id)
        if greeted is not None and engine is not greeted and not self.sessions.exists(session_id):
            engine = greeted if contract_differences(greeted.spec, engine.spec) else engine
        return ObservationReader(
            spec=engine.spec,
            max_image_pixels=self.config.max_image_pixels,
            lab_keys=self.observation_keys,
            default_instruction=self.config.default_instruction,
            fit_image=engine.fit_image,
            engine=engine,
            of_session=lambda other: self.reader_for(other, engine),
        )

    async def policy_loaded(self) -> PolicySpec:
        """Wait until the policy is loaded, and return what it is.

        Raises:
            ModelUnavailable: it could not be.
            Unavailable: the server is shutting down.
        """
        loaded = asyncio.ensure_future(self.engine.loaded())
        ending = asyncio.ensure_future(self.shutdown.begun.wait())
        try:
            await asyncio.wait({loaded, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not loaded.done():
                self.shutdown.check()
            return await loaded
        finally:
            loaded.cancel()
            ending.cancel()

    @property
    def renderer(self) -> str | None:
        """The renderer of scenes; None until it is known, and if none works."""
        started = self.pool_start.done() and self.pool_start.result() is None
        return self.pool.renderer if started else None

    @property
    def confinement(self) -> Confinement | None:
        """What the kernel keeps from the scene workers; None as long as `renderer` is."""
        return self.pool.confinement if self.renderer else None

    async def render(self, scene: Scene, request: RenderRequest) -> RenderReply:
        """Draw a scene.

        Raises:
            RendererUnavailable: nothing here can.
            SceneError, UnknownName, Unavailable: see `ScenePool.render`.
        """
        await self._pool_started()
        return await self.pool.render(scene, request)

    async def roll_out(self, scene: Scene, request: RolloutRequest) -> RolloutReply:
        """Go on with a scene's simulation; raises what `render` does."""
        await self._pool_started()
        return await self.pool.roll_out(scene, request)

    async def export(self, scene: Scene, request: GltfRequest) -> GltfReply:
        """Write a scene as a glTF file; raises what `render` does."""
        await self._pool_started()
        return await self.pool.export(scene, request)

    async def _pool_started(self) -> None:
        # Shielded, for it is every request's, not only this one's.
        error = await asyncio.shield(self.pool_start)
        if error is not None:
            raise RendererUnavailable(error.message, hint=error.hint)


async def start_pool(pool: ScenePool) -> RendererUnavailable | None:
    """Start the pool; return why if it cannot start."""
    try:
        await pool.start()
    except RendererUnavailable as error:
        logger.warning("scenes cannot be rendered, requests with images can be answered: %s", error.message)
        return error
    except Exception:
        logger.exception("scenes cannot be rendered, requests with images can be answered")
        return RendererUnavailable("the scene workers could not be started", hint="see the server's log")
    return None


async def _service(request: Request) -> Service:
    return request.app.state.service


CurrentService = Annotated[Service, Depends(_service)]
"""The annotation of a route's argument that receives the service."""
