"""A running episode that is steered: paused, stepped, changed and stopped, always between two steps.

>>> steering = Steering(episode, pace="real_time")
>>> async for event in steering.play(): ...  # meanwhile: await steering.apply(Command(status="paused"))
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Literal

from vla_server_base.episodes.events import EpisodeChange, EpisodeEvent, EpisodeStep
from vla_server_base.episodes.loop import Episode
from vla_server_base.episodes.settings import MAX_CHANGES, Change, Pace
from vla_server_base.errors import EpisodeEnded, RequestError, VLAError


@dataclass(frozen=True, kw_only=True)
class Command:
    """What somebody wants of a running episode; all of it takes effect together, before the next step.

    `num_steps` executes that many actions of a paused episode and pauses it again. `change` is made before the next
    step, whatever its `step` says.
    """

    status: Literal["running", "paused", "stopped"] | None = None
    num_steps: int | None = None
    pace: Pace | None = None
    change: Change | None = None


class Steering:
    """Plays one episode as commands say; its settings are `with_images`, for the policy may be asked at any step."""

    def __init__(self, episode: Episode, *, pace: Pace = "fast", is_paused: bool = False):
        self.episode = episode
        self.status: Literal["running", "paused", "ended"] = "paused" if is_paused else "running"
        self.pace: Pace = pace
        self._num_steps_left: int | None = None
        """Until it is paused again; None for no limit."""
        self._is_stopped = False
        self._commands: deque[tuple[Command, asyncio.Future[None]]] = deque()
        self._command_came = asyncio.Event()
        self._clock = _SimulatedClock()

    async def apply(self, command: Command) -> None:
        """Wait until a command has taken effect.

        Raises:
            EpisodeEnded: the episode ends before.
            VLAError: it cannot be done; nothing of it is.
        """
        if self.status == "ended":
            raise episode_ended()
        has_effect: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._commands.append((command, has_effect))
        self._command_came.set()
        await has_effect

    async def play(self) -> AsyncGenerator[EpisodeEvent, None]:
        """Yield the episode's events, each when it is time for it; raises what `loop.play` does."""
        try:
            start = await self.episode.start()
            yield start
            self._clock.restart(start.state.time_s)
            while not self.episode.is_over:
                async for change in self._obey_commands():
                    yield change
                event = await self._advance()
                yield event
                if isinstance(event, EpisodeStep) and self._is_last_step():
                    self.status, self._num_steps_left = "paused", None
                    yield self._changed()
            self.status = "ended"
            if self._is_stopped:
                self._settle()
        finally:
            self.status = "ended"
            while self._commands:
                self._settle(episode_ended())

    async def _obey_commands(self) -> AsyncGenerator[EpisodeChange, None]:
        """Obey the commands that have come, and wait for more as long as the episode is paused."""
        while self.episode.outcome is None and not self._is_stopped and (self._commands or self.status == "paused"):
            while not self._commands:
                self._command_came.clear()
                await self._command_came.wait()
            command, _ = self._commands[0]
            try:
                change = await self._obey(command)
            except VLAError as error:
                self._settle(error)
                continue
            if self._is_stopped:
                return  # it has taken effect when the episode has ended
            yield change
            self._settle()

    async def _obey(self, command: Command) -> EpisodeChange:
        is_stepping = self._num_steps_left is not None
        status = command.status or ("paused" if is_stepping else self.status)
        if command.num_steps is not None and status != "paused":
            raise RequestError("steps: the episode is not paused", hint="send status: paused with steps, or before")
        change = None
        if command.change is not None:
            if self.episode.num_changes >= MAX_CHANGES:
                raise RequestError(
                    f"the episode has {MAX_CHANGES} changes, those of its request counted, which is the limit",
                    hint="begin another one from its state",
                )
            change = await self.episode.change(command.change)
        was_paused = self.status == "paused"
        self.pace = command.pace or self.pace
        self._is_stopped = status == "stopped"
        if command.num_steps is not None:
            self._num_steps_left = (self._num_steps_left or 0) + command.num_steps
            self.status = "running"
        elif command.status is not None:
            self._num_steps_left = None
            self.status = "paused" if status == "paused" else "running"
        if was_paused:
            self._clock.restart(self.episode.state.time_s)
        return self._changed(change)

    async def _advance(self) -> EpisodeEvent:
        """Return what comes next, not before its time."""
        if self._is_stopped:
            return self.episode.end("stopped")
        event = await self.episode.advance()
        if isinstance(event, EpisodeStep):
            await self._clock.wait_for(event.result.state.time_s, self.pace)
        return self._changed(event) if isinstance(event, EpisodeChange) else event

    def _is_last_step(self) -> bool:
        """Count a step, and return whether the episode pauses after it."""
        if self._num_steps_left is not None:
            self._num_steps_left -= 1
        return self._num_steps_left == 0 and self.episode.outcome is None

    def _changed(self, change: EpisodeChange | None = None) -> EpisodeChange:
        assert self.status != "ended", "nothing changes after the end"
        change = change or EpisodeChange(index=self.episode.num_steps)
        return replace(change, status=self.status, pace=self.pace)

    def _settle(self, error: VLAError | None = None) -> None:
        """Answer the command that came first."""
        _, has_effect = self._commands.popleft()
        if has_effect.done():  # who sent it has gone
            return
        if error is None:
            has_effect.set_result(None)
        else:
            has_effect.set_exception(error)


class _SimulatedClock:
    """Waits until simulated time has passed in real time; what comes late moves all that follows."""

    def restart(self, simulated_s: float) -> None:
        """Let the simulated time be this now."""
        self._simulated_s, self._at = simulated_s, time.monotonic()

    async def wait_for(self, simulated_s: float, pace: Pace) -> None:
        """Wait for a simulated time; at the pace `fast` it is now."""
        due = self._at + simulated_s - self._simulated_s
        while pace == "real_time" and (seconds := due - time.monotonic()) > 0:
            await asyncio.sleep(seconds)
        self.restart(simulated_s)


def episode_ended() -> EpisodeEnded:
    """Return the error of a command that comes too late."""
    return EpisodeEnded("the episode has ended", hint="begin another one: POST /episodes")
