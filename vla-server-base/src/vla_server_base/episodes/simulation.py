"""The simulation of one episode, by any worker, within a limit of their time."""

from typing import Any

from vla_server_base.episodes.interfaces import World
from vla_server_base.episodes.settings import EpisodeSettings, Predicate
from vla_server_base.errors import EpisodeTooLong
from vla_server_base.scenes.messages import RolloutReply, RolloutRequest, Scene, SceneState, Snapshot


class EpisodeSimulation:
    """Rolls an episode's scene out, always with its arm, its bounds and its poses."""

    def __init__(self, world: World, scene: Scene, settings: EpisodeSettings):
        self._world, self._scene, self._settings = world, scene, settings
        self._worker_ms = 0.0

    async def roll_out(
        self, success: tuple[Predicate, ...], *, start: SceneState | Snapshot, **rest: Any
    ) -> RolloutReply:
        """Go on from `start`, and measure what `success` asks for; `rest` are fields of a RolloutRequest.

        Raises:
            EpisodeTooLong: the episode has used up `max_worker_s`.
            SceneError, UnknownName, Unavailable: see `ScenePool.roll_out`.
        """
        settings = self._settings
        request = RolloutRequest(
            start=start,
            robot=settings.robot,
            control=settings.control,
            bounds=settings.bounds,
            measures=tuple(predicate.measure for predicate in success),
            poses=settings.poses,
            **rest,
        )
        if self._worker_ms > settings.max_worker_s * 1e3:
            raise EpisodeTooLong(
                f"the episode has used up its {settings.max_worker_s:g} s of scene workers' time",
                hint="send a scene that is cheaper to simulate and render, or several episodes, each from the state"
                " that the last one reached; VLA_EPISODE_WORKER_S raises the limit",
            )
        reply = await self._world.roll_out(self._scene, request)
        self._worker_ms += reply.cost.compile_ms + reply.cost.physics_ms + reply.cost.render_ms
        return reply
