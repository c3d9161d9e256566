"""The episodes that run while they are watched and steered: begun, kept for a while after their end, forgotten."""

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from weakref import WeakSet

from vla_server_base.access.keys import current_owner
from vla_server_base.config import ServerConfig
from vla_server_base.episodes.steering import Steering
from vla_server_base.errors import EpisodeTooLong, NotFound, Unavailable
from vla_server_base.request_context import current_client
from vla_server_base.schemas.episode import EpisodeStatusReply
from vla_server_base.schemas.execute_reply import StartEvent
from vla_server_base.server.in_flight import Shutdown
from vla_server_base.server.slots import Slots
from vla_server_base.server.steered_episode import Events, SteeredEpisode, Write

logger = logging.getLogger(__name__)

LEFT_S = 10.0
"""After this long without a reader an episode makes room for another one, if there is no other room."""
ABANDONED_S = 60.0
"""After this long without a reader or a command an episode is ended, unless it hurries to its end by itself."""
MAX_ENDED = 200
"""Of the episodes that have ended, how many are kept."""
_SWEEP_S = 1.0


class SteeredEpisodes:
    """The episodes by their id. All methods are called on the event loop.

    An episode holds a slot as long as it runs. Where none is free, the one that was left longest makes room, first of
    the client who has most: no client drives out another's. Where all events together exceed `episodes_mb`, the
    episodes that ended first are forgotten, then the largest one that still runs is ended.
    """

    def __init__(
        self, slots: Slots, config: ServerConfig, shutdown: Shutdown, clock: Callable[[], float] = time.monotonic
    ):
        self._slots, self._config, self._shutdown, self.clock = slots, config, shutdown, clock
        self._episodes: dict[str, SteeredEpisode] = {}
        self._unlisted: WeakSet[SteeredEpisode] = WeakSet()
        """Those that were deleted or are too old, as long as somebody still reads them."""
        self._sweeping: asyncio.Task[None] | None = None

    async def begin(self, steering: Steering, start: StartEvent, rest: Events, write: Write) -> SteeredEpisode:
        """Have an episode go on by itself, from its start event.

        Raises:
            Unavailable: the server is shutting down.
        """
        first = await asyncio.to_thread(write, start)
        self._shutdown.check()
        episode = SteeredEpisode(
            episode_id=secrets.token_hex(8),
            client=current_client.get(),
            owner=current_owner(),
            steering=steering,
            start=start,
            clock=lambda: self.clock(),
        )
        self._episodes[episode.id] = episode
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep_until_none_is_left())
        episode.run(first, rest, write, self._keep_within_memory)
        self._keep_within_memory()
        return episode

    def get(self, episode_id: str) -> SteeredEpisode:
        """Return an episode.

        Raises:
            NotFound: there is none of this id, or it is another key's.
        """
        if episode_id not in self._episodes or self._episodes[episode_id].owner != current_owner():
            raise NotFound(
                f"there is no episode '{episode_id[:80]}'",
                hint="GET /episodes lists them; VLA_EPISODE_KEEP_S and VLA_EPISODES_MB keep ended ones longer",
            )
        return self._episodes[episode_id]

    def statuses(self) -> Sequence[EpisodeStatusReply]:
        """Return the status of each episode that the request may see, the newest first."""
        self.sweep()
        own = [episode for episode in self._episodes.values() if episode.owner == current_owner()]
        return [episode.status() for episode in reversed(own)]

    async def end(self, episode_id: str) -> EpisodeStatusReply:
        """End an episode, forget it, and return its last status.

        Raises:
            NotFound: there is none of this id.
        """
        episode = self.get(episode_id)
        await episode.stop()
        self._unlist(episode)
        return episode.status()

    async def make_room(self) -> None:
        """End the episode that was left longest, if there is no free slot for another one."""
        if not self._slots.are_taken:
            return
        costs = Counter(episode.client for episode in self._running)
        left = [episode for episode in self._running if episode.is_left(LEFT_S)]
        longest = min(left, key=lambda episode: (-costs[episode.client], episode.last_used), default=None)
        if longest is not None:
            logger.info("episode=%s was ended to make room for another: nobody reads it", longest.id)
            await longest.stop()

    def sweep(self) -> None:
        """End abandoned episodes, and forget those that ended long ago."""
        for episode in list(self._episodes.values()):
            if episode.ended_at is not None and self.clock() - episode.ended_at > self._config.episode_keep_s:
                self._unlist(episode)
            elif episode.ended_at is None and episode.is_left(ABANDONED_S):
                logger.info("episode=%s was ended: nobody has read or steered it for %.0f s", episode.id, ABANDONED_S)
                episode.cut()

    async def close_at_shutdown(self) -> None:
        """Wait until the server shuts down, which ends all episodes."""
        await self._shutdown.begun.wait()
        await self.close()

    async def close(self) -> None:
        """End all episodes, and tell their readers why."""
        error = Unavailable("the server is shutting down", hint="begin the episode again, after the restart")
        await asyncio.gather(*(episode.stop(error) for episode in self._running))
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def _sweep_until_none_is_left(self) -> None:
        while self._episodes:
            await asyncio.sleep(_SWEEP_S)
            self.sweep()

    @property
    def _running(self) -> list[SteeredEpisode]:
        return [episode for episode in self._episodes.values() if episode.ended_at is None]

    def _keep_within_memory(self) -> None:
        """Forget ended episodes, then end the largest that runs, until all events fit into `config.episodes_mb`.

        No more than MAX_ENDED are kept: this is called for every event, and GET /episodes lists them all.
        """
        limit_mb, kept = self._config.episodes_mb, [*self._episodes.values(), *self._unlisted]
        excess_bytes = sum(episode.events.num_bytes for episode in kept) - limit_mb * 2**20
        ended = [episode for episode in kept if episode.ended_at is not None]
        ended.sort(key=lambda episode: episode.ended_at or 0.0)
        for number, episode in enumerate(ended):
            if excess_bytes <= 0 and len(ended) - number <= MAX_ENDED:
                break
            excess_bytes -= episode.events.num_bytes
            self._forget(episode)
        if excess_bytes > 0:
            max(self._running, key=lambda episode: episode.events.num_bytes).cut(
                EpisodeTooLong(
                    f"the events of all episodes exceed {limit_mb} MB, and this one has the most",
                    hint="send fewer max_steps, frames: none, or POST /execute, which keeps none;"
                    " VLA_EPISODES_MB raises the limit",
                )
            )

    def _unlist(self, episode: SteeredEpisode) -> None:
        """List it no more; its events stay as long as somebody may still read them."""
        self._episodes.pop(episode.id, None)
        if episode.num_readers:
            self._unlisted.add(episode)
        else:
            episode.events.forget()

    def _forget(self, episode: SteeredEpisode) -> None:
        self._episodes.pop(episode.id, None)
        self._unlisted.discard(episode)
        episode.events.forget()
