"""What one running server is made of; the lifespan puts it together, the routes use it."""

import asyncio
import logging
from dataclasses import dataclass

from vla_server_base.config import ServerConfig
from vla_server_base.contract import VLAModelAdapter
from vla_server_base.engine import Engine
from vla_server_base.errors import RendererUnavailable
from vla_server_base.replies import HealthReply
from vla_server_base.scenes.messages import RenderReply, RenderRequest
from vla_server_base.scenes.pool import ScenePool

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Service:
    """One policy behind one engine, with the processes that draw scenes for it.

    `pool_start` is the start of these processes, which goes on beside the model's loading; its result says
    why nothing can draw scenes here, where that is so. Pictures are answered all the same.
    """

    model_id: str
    config: ServerConfig
    adapter: VLAModelAdapter
    engine: Engine
    pool: ScenePool
    pool_start: "asyncio.Task[RendererUnavailable | None]"

    @property
    def health(self) -> HealthReply:
        """Whether everything that can be ready is."""
        model = self.engine.status
        status, reason = "healthy", model.reason
        if model.state != "loaded":
            status = model.state
        elif not self.pool_start.done():
            status, reason = "loading", "the scene workers are being started"
        return HealthReply(status=status, model=self.model_id, model_status=model.state, reason=reason)

    @property
    def renderer(self) -> str | None:
        """What draws scenes; None while that is being found out, and where nothing can."""
        started = self.pool_start.done() and self.pool_start.result() is None
        return self.pool.renderer if started else None

    async def render(self, request: RenderRequest) -> RenderReply:
        """Draw a scene.

        Raises:
            RendererUnavailable: nothing here can.
            SceneError, UnknownName, Unavailable: see `ScenePool.render`.
        """
        # Shielded, for it is every request's, not only this one's.
        error = await asyncio.shield(self.pool_start)
        if error is not None:
            raise RendererUnavailable(error.message, hint=error.hint)
        return await self.pool.render(request)


async def start_pool(pool: ScenePool) -> RendererUnavailable | None:
    """Start the pool and return why it cannot be, where that is so."""
    try:
        await pool.start()
    except RendererUnavailable as error:
        logger.warning("scenes cannot be drawn, pictures are answered: %s", error.message)
        return error
    except Exception:
        logger.exception("scenes cannot be drawn, pictures are answered")
        return RendererUnavailable("the scene workers could not be started; the server's log says why")
    return None
