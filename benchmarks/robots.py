"""Robots as cheap as they can be: one program that replays encoded observations over WebSockets, and notes the answers.

As a program it reads its orders from the standard input (`Order`, as JSON), connects, and writes what came of them.
"""

import asyncio
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import connect

from vla_client.message_pack import pack, unpack

NUM_PICTURES = 10
INSTRUCTION = "pick up the red cube"


@dataclass(frozen=True, kw_only=True)
class Beat:
    """When a robot asks: every `period_s` from `phase_s` on; an answer after `deadline_s` is of no use."""

    period_s: float
    deadline_s: float
    phase_s: float


@dataclass(frozen=True, kw_only=True)
class Order:
    """What robots do: where the server is, each one's beat, how long, and how large its images are.

    The first `warm_up_s` do not count.
    """

    url: str
    beats: Sequence[Beat]
    seconds: float
    warm_up_s: float = 2.0
    side: int = 128


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What came of one observation: "ok", an error's code, or "skipped" while the last one had no answer.

    `at_s` is since the robots began; `infer_s` is what the device took, if the answer says it.
    """

    at_s: float
    robot: int
    came: str
    latency_s: float = math.inf
    infer_s: float = math.nan


def in_time(asked: Iterable[Asked], beats: Sequence[Beat]) -> list[Asked]:
    """Return the observations that were answered within their deadline."""
    return [each for each in asked if each.came == "ok" and each.latency_s <= beats[each.robot].deadline_s]


def latency_ms(asked: Iterable[Asked], percentile: float) -> float:
    """Return a percentile of the answers' latencies; those that came too late count."""
    return 1e3 * float(np.percentile([each.latency_s for each in asked if each.came == "ok"], percentile))


def drive(order: Order) -> list[Asked]:
    """Have robots act in a process of their own, and return what came of all observations after the warm-up."""
    command = [sys.executable, str(Path(__file__))]
    done = subprocess.run(command, input=json.dumps(asdict(order)), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return [Asked(**each) for each in json.loads(done.stdout)]


def main() -> None:
    """Drive robots as ordered on the standard input."""
    read: dict[str, Any] = json.load(sys.stdin)
    order = Order(**{**read, "beats": [Beat(**each) for each in read["beats"]]})
    print(json.dumps([asdict(each) for each in asyncio.run(_drive_all(order))]))


async def _drive_all(order: Order) -> list[Asked]:
    pictures = np.random.default_rng(0).integers(0, 256, (NUM_PICTURES, order.side, order.side, 3), np.uint8)
    started: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    robots = [_Robot(number, order, pictures, started) for number in range(len(order.beats))]
    tasks = [asyncio.create_task(robot.act()) for robot in robots]
    await asyncio.gather(*(robot.connected.wait() for robot in robots))
    started.set_result(time.perf_counter())
    await asyncio.gather(*tasks)
    asked = [each for robot in robots for each in robot.asked if each.at_s >= order.warm_up_s]
    return sorted(asked, key=lambda each: each.at_s)


class _Robot:
    """One connection from an address of its own: each robot is a client."""

    def __init__(self, number: int, order: Order, pictures: np.ndarray, started: "asyncio.Future[float]"):
        self._number, self._order, self._beat, self._started = number, order, order.beats[number], started
        fields = {"instruction": INSTRUCTION, "deadline_ms": 1e3 * self._beat.deadline_s}
        self._messages = [pack({"primary": picture, **fields}) for picture in pictures]
        self.connected = asyncio.Event()
        self.asked: list[Asked] = []

    async def act(self) -> None:
        options: dict[str, Any] = {"compression": None, "max_size": None, "ping_interval": None}
        address = f"127.0.{1 + self._number // 250}.{1 + self._number % 250}"
        async with connect(self._order.url, local_addr=(address, 0), **options) as socket:
            await socket.recv()
            await self._ask(socket, self._messages[0])
            self.connected.set()
            began, step = await self._started, 0
            while (due_s := self._beat.phase_s + step * self._beat.period_s) < self._order.seconds:
                late_s = time.perf_counter() - began - due_s
                if late_s > self._beat.period_s:
                    self.asked.append(Asked(at_s=due_s, robot=self._number, came="skipped"))
                else:
                    await asyncio.sleep(max(0.0, -late_s))
                    sent = time.perf_counter()
                    came, infer_s = await self._ask(socket, self._messages[step % NUM_PICTURES])
                    latency_s, at_s = time.perf_counter() - sent, sent - began
                    self.asked.append(
                        Asked(at_s=at_s, robot=self._number, came=came, latency_s=latency_s, infer_s=infer_s)
                    )
                step += 1

    async def _ask(self, socket: Any, message: bytes) -> tuple[str, float]:
        """Return "ok" or an error's code, and what the device took."""
        await socket.send(message)
        reply = await socket.recv()
        if isinstance(reply, str):
            return reply.partition(":")[0], math.nan
        return "ok", unpack(reply)["policy_timing"]["infer_ms"] / 1e3


if __name__ == "__main__":
    main()
