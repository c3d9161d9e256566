"""One episode that runs by itself, in a task, while others read its events and steer it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Literal

from vla_server_base.episodes.events import EndReason
from vla_server_base.episodes.steering import Command, Steering
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
        self, *, episode_id: str, client: str, steering: Steering, start: StartEvent, clock: Callable[[], float]
    ):
        self.id, self.client, self.events = episode_id, client, KeptEvents()
        self.ended_at: float | None = None
        self.last_used = clock()
        self._steering, self._start, self._clock = steering, start, clock
        self._reason: EndReason | Literal["error"] | None = None
        self._num_readers = 0
        self._cut_by: VLAError | None = None

    def run(self, events: Events, write: Write, has_grown: Callable[[], None]) -> None:
        """Run in a task of its own, from behind the start; `has_grown` is called when there are more events to keep."""
        self.events.add(write(self._start))
        self._events = events
        self._task = asyncio.create_task(self._run(write, has_grown))

    async def steer(self, command: Command) -> None:
        """Wait until a command has taken effect; raises what `Steering.apply` does."""
        self.last_used = self._clock()
        await self._steering.apply(command)

    @contextmanager
    def read(self, after: int) -> Iterator[AsyncGenerator[bytes, None]]:
        """Follow the events behind number `after` within a `with` block."""
        self._num_readers += 1
        try:
            yield self.events.follow(after)
        finally:
            self._num_readers -= 1
            self.last_used = self._clock()

    def is_left(self, seconds: float) -> bool:
        """Return whether nobody has read or steered it for some time, and it would not end soon by itself."""
        hurries = self._steering.status == "running" and self._steering.pace == "fast"
        return not self._num_readers and not hurries and self._clock() - self.last_used > seconds

    def cut(self, error: VLAError | None = None) -> None:
        """End it wherever it is; its last event is the error, or `end` without one."""
        self._cut_by = error
        self._task.cancel()

    async def stop(self, error: VLAError | None = None) -> None:
        """Cut it, and wait until it has ended."""
        self.cut(error)
        await asyncio.wait([self._task])
        await self._events.aclose()  # a task that is cancelled before it begins closes nothing

    def status(self) -> EpisodeStatusReply:
        """Return where it is."""
        episode = self._steering.episode
        return EpisodeStatusReply(
            episode_id=self.id,
            status=self._steering.status,
            reason=self._reason,
            pace=self._steering.pace,
            instruction=episode.task.instruction,
            seed=self._start.seed,
            step=episode.num_steps,
            time=round(episode.state.time_s, 9),
            success=episode.success,
            scene_id=self._start.scene_id,
            changes=[change_to_body(change) for change in episode.changes],
        )

    async def _run(self, write: Write, has_grown: Callable[[], None]) -> None:
        try:
            async with aclosing(self._events):
                async for event in self._events:
                    self.events.add(await asyncio.to_thread(write, event))
                    has_grown()
            self._reason = self._steering.episode.reason
        except asyncio.CancelledError:
            self._end(self._cut_by)
        except Exception as error:
            self._end(client_error(error))
        finally:
            self.ended_at = self._clock()
            self.events.complete()

    def _end(self, error: VLAError | None) -> None:
        """Tell readers why no more events come."""
        if error is not None:
            self._reason = "error"
            self._add("error", error_reply(error))
        else:
            self._reason = "stopped"
            self._add("end", end_event(self._steering.episode.end("stopped"), {}))

    def _add(self, name: str, content: Reply) -> None:
        self.events.add(WrittenEvent(name=name, json=content.model_dump_json(exclude_unset=True)))
