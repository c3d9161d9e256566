"""One episode that runs by itself, in a task, while others read its events and steer it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Literal

from vla_server_base.episodes.events import EndReason
from vla_server_base.episodes.steering import Command, Steering, episode_ended
from vla_server_base.errors import VLAError
from vla_server_base.schemas.base import Reply
from vla_server_base.schemas.change import change_to_body
from vla_server_base.schemas.episode import EpisodeStatusReply
from vla_server_base.schemas.episode_events import end_event
from vla_server_base.schemas.execute_reply import StartEvent
from vla_server_base.server.error_replies import client_error, error_reply
from vla_server_base.server.kept_events import KeptEvents, WrittenEvent

Events = AsyncGenerator[Any, None]
Write = Callable[[Any], WrittenEvent]


class SteeredEpisode:
    """An episode, the events that it has had, and who uses it."""

    def __init__(
        self,
        *,
        episode_id: str,
        client: str,
        owner: str,
        steering: Steering,
        start: StartEvent,
        clock: Callable[[], float],
    ):
        self.spec = steering.episode.spec
        self._seed, self._scene_id, self._clock = start.seed, start.scene_id, clock
        self.id, self.client, self.owner, self.events = episode_id, client, owner, KeptEvents()
        self.ended_at: float | None = None
        self.last_used = clock()
        self._steering: Steering | None = steering
        self._reason: EndReason | Literal["error"] | None = None
        self.num_readers = 0
        self._cut_by: VLAError | None = None
        self._has_begun = False

    def run(self, first: WrittenEvent, rest: Events, write: Write, has_grown: Callable[[], None]) -> None:
        """Run in a separate task, from behind the first event; `has_grown` is called when there are more to keep."""
        self.events.add(first)
        self._task = asyncio.create_task(self._run(rest, write, has_grown))
        self._task.add_done_callback(self._finish)

    async def steer(self, command: Command) -> None:
        """Wait until a command has taken effect; raises what `Steering.apply` does."""
        if self._steering is None:
            raise episode_ended()
        self.last_used = self._clock()
        await self._steering.apply(command)

    @contextmanager
    def read(self, after: int) -> Iterator[AsyncGenerator[bytes, None]]:
        """Follow the events behind number `after` within a `with` block."""
        self.num_readers += 1
        try:
            yield self.events.follow(after)
        finally:
            self.num_readers -= 1
            self.last_used = self._clock()

    def is_left(self, seconds: float) -> bool:
        """Return whether nobody has read or steered it for some time, and it would not end soon by itself."""
        if self._steering is None or self.num_readers:
            return False
        hurries = self._steering.status == "running" and self._steering.pace == "fast"
        return not hurries and self._clock() - self.last_used > seconds

    def cut(self, error: VLAError | None = None) -> None:
        """End it wherever it is; its last event is the error, or `end` without one."""
        if self._reason is not None or self._task.done():
            return
        self._cut_by = error
        self._reason = "stopped" if error is None else "error"
        if self._has_begun:  # a task that is cancelled before it begins closes nothing
            self._task.cancel()

    async def stop(self, error: VLAError | None = None) -> None:
        """Cut it, and wait until it has ended."""
        self.cut(error)
        await asyncio.wait([self._task])

    def status(self) -> EpisodeStatusReply:
        """Return where it is."""
        if self._steering is not None:
            self._status = self._status_of(self._steering)
        return self._status

    def _status_of(self, steering: Steering) -> EpisodeStatusReply:
        episode = steering.episode
        has_ended = steering.status == "ended"
        return EpisodeStatusReply(
            episode_id=self.id,
            status=steering.status,
            reason=self._reason or episode.reason or "error" if has_ended else None,
            pace=steering.pace,
            instruction=episode.task.instruction,
            seed=self._seed,
            step=episode.num_steps,
            time=round(episode.state.time_s, 9),
            success=episode.success,
            scene_id=self._scene_id,
            changes=[change_to_body(change) for change in episode.changes],
        )

    async def _run(self, rest: Events, write: Write, has_grown: Callable[[], None]) -> None:
        async with aclosing(rest):
            self._has_begun = True
            if self._reason is not None:
                raise asyncio.CancelledError
            async for event in rest:
                self.events.add(await asyncio.to_thread(write, event))
                has_grown()

    def _finish(self, task: asyncio.Task[None]) -> None:
        """Tell readers why no more events come, and keep only these: the scene may have many megabytes."""
        assert self._steering is not None, "an episode ends once"
        error = self._cut_by if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._reason = "error"
            self._add("error", error_reply(client_error(error)))
        elif task.cancelled():
            self._add("end", end_event(self._steering.episode.end("stopped"), {}))
        self.status()
        self._steering = None
        self.ended_at = self._clock()
        self.events.complete()

    def _add(self, name: str, content: Reply) -> None:
        self.events.add(WrittenEvent(name=name, json=content.model_dump_json(exclude_unset=True)))
