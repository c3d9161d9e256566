"""What a robot notices of evaluations and of a flood: its latencies beside them, as ratios within one run.

    cd vla-servers/octo-small && uv run python ../../benchmarks/fairness.py [--model bundled://tabletop] [--rounds 4]

A robot asks at 5 Hz. Each round measures it alone, beside the others, and alone again, so that what else the machine
does meets all of them. The others have an address of their own (127.0.0.2 for the batch clients, 127.0.0.3 for the
flood) and are processes of the lowest priority: elsewhere they would take none of the server's processor. Prints
Markdown: the robot's p50 and p99 over all rounds, their ratios to those alone, and what each client got. The first two
rows are a control: programs of the same priority that ask the server nothing.
"""

import argparse
import asyncio
import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from server import Server, add_figures, machine, running
from websockets.asyncio.client import connect

from vla_client import Policy
from vla_client.errors import PolicyError
from vla_client.message_pack import pack, unpack

PERIOD_S = 0.2
WARM_UP_S = 2.0
BATCH, FLOOD = "127.0.0.2", "127.0.0.3"
INSTRUCTION = "pick up the red cube"
SIDE = 128


@dataclass(frozen=True, kw_only=True)
class Others:
    """Clients beside the robot: how many connections, from where, in which class, and what each of them asks.

    Without connections they only compute, on two threads.
    """

    name: str
    protocol: str
    address: str
    num_connections: int
    priority: str
    num_samples: int = 1


SCENARIOS = (
    *(
        Others(name="two busy programs", protocol=each, address=BATCH, num_connections=0, priority="batch")
        for each in ("http", "ws")
    ),
    Others(name="16 batch clients", protocol="http", address=BATCH, num_connections=16, priority="batch"),
    Others(
        name="flood of 200, 64 samples",
        protocol="http",
        address=FLOOD,
        num_connections=200,
        priority="robot",
        num_samples=64,
    ),
    Others(name="16 batch clients", protocol="ws", address=BATCH, num_connections=16, priority="batch"),
    Others(name="flood of 200", protocol="ws", address=FLOOD, num_connections=200, priority="robot"),
)


@dataclass
class Met:
    """What the robot met: the latencies of its answers [s], and how many of each code it got."""

    latencies: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)

    def ms(self, percentile: float) -> float:
        """Return a percentile of the latencies."""
        return 1e3 * float(np.percentile(self.latencies, percentile))


def main() -> None:
    """Measure each scenario, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled://tabletop")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=50, help="of the robot in each part of a round")
    parser.add_argument("--scenarios", type=int, nargs="+", default=range(len(SCENARIOS)))
    parser.add_argument("--json", type=Path, help="add all figures to this file")
    parser.add_argument("--as-others", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_others:
        asyncio.run(ask_until_told(**json.loads(arguments.as_others)))
        return
    print(f"{machine()}; {arguments.model}, {arguments.rounds} rounds of {arguments.steps} steps at 5 Hz.\n")
    print(
        "| beside the robot | over | alone p50, p99 ms | beside p50, p99 ms | ratio p50, p99 | robot got | others got |"
    )
    print("|---|---|---|---|---|---|---|")
    found = []
    with running(arguments.model) as server:
        for number in arguments.scenarios:
            row = measure(server, SCENARIOS[number], arguments.rounds, arguments.steps)
            found.append(row)
            cells = [row["name"], row["protocol"], *(_pair(row[each], "{:.0f}") for each in ("alone", "beside"))]
            cells += [_pair(row["ratio"], "{:.2f}"), _counts(row["robot"]), _counts(row["others"])]
            print(f"| {' | '.join(cells)} |", flush=True)
    add_figures(arguments.json, f"fairness {arguments.model}", found)


def _pair(numbers: tuple[float, float], form: str) -> str:
    return ", ".join(form.format(number) for number in numbers)


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {code}" for code, number in counts.most_common())


def measure(server: Server, others: Others, num_rounds: int, num_steps: int) -> dict[str, Any]:
    """Alternate between the robot alone and beside the others."""
    alone, beside, got = Met(), Met(), Counter[str]()
    with robot_of(server, others.protocol) as act:
        drive(act, 10, Met())
        for _ in range(num_rounds):
            drive(act, num_steps // 2, alone)
            with running_others(server, others) as counted:
                drive(act, num_steps, beside)
            got += counted
            time.sleep(WARM_UP_S)
            drive(act, num_steps // 2, alone)
    p50s, p99s = ([met.ms(percentile) for met in (alone, beside)] for percentile in (50, 99))
    return {
        "name": others.name,
        "protocol": others.protocol,
        "alone": (p50s[0], p99s[0]),
        "beside": (p50s[1], p99s[1]),
        "ratio": (p50s[1] / p50s[0], p99s[1] / p99s[0]),
        "robot": beside.codes,
        "others": got,
    }


def drive(act: Callable[[int], str], num_steps: int, met: Met) -> None:
    """Act at 5 Hz."""
    due = time.perf_counter()
    for step in range(num_steps):
        time.sleep(max(0.0, due - time.perf_counter()))
        sent = time.perf_counter()
        code = act(step)
        met.codes[code] += 1
        met.latencies.append(time.perf_counter() - sent)
        due = max(due + PERIOD_S, time.perf_counter())


@contextmanager
def robot_of(server: Server, protocol: str) -> Iterator[Callable[[int], str]]:
    """Yield what one control step of a robot is: it returns "ok" or an error's code."""
    pictures = np.random.default_rng(0).integers(0, 256, (10, SIDE, SIDE, 3), np.uint8)
    if protocol == "ws":
        with Policy(server.url.replace("http", "ws"), seed=0) as policy:
            yield lambda step: _acted(policy, pictures[step % 10])
        return
    bodies = [{"instruction": INSTRUCTION, "image": encoded(each), "session_id": "robot"} for each in pictures]
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield lambda step: _code(client.post("/predict", json=bodies[step % 10]))


def _acted(policy: Policy, picture: np.ndarray) -> str:
    try:
        policy.act({"primary": picture}, INSTRUCTION)
    except PolicyError as error:
        return error.code
    return "ok"


def _code(reply: httpx.Response) -> str:
    return "ok" if reply.is_success else reply.json()["error"]["code"]


def encoded(picture: np.ndarray) -> str:
    """Return an image as base64 of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@contextmanager
def running_others(server: Server, others: Others) -> Iterator[Counter[str]]:
    """Run the others for the length of a block; the counter has afterwards what they got."""
    counted: Counter[str] = Counter()
    command = [sys.executable, __file__, "--as-others", json.dumps({"url": server.url, **vars(others)})]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(WARM_UP_S)
        try:
            yield counted
        finally:
            process.stdin.close()
            counted.update(json.loads(process.stdout.readline()))


async def ask_until_told(
    url: str, name: str, protocol: str, address: str, num_connections: int, priority: str, num_samples: int
) -> None:
    """Ask on all connections, again and again, until the standard input ends; then print what came."""
    del name
    os.nice(19)
    got: Counter[str] = Counter()
    is_over = threading.Event()
    computing = [threading.Thread(target=_compute, args=(is_over,)) for _ in range(0 if num_connections else 2)]
    for each in computing:
        each.start()
    host, _, port = url.removeprefix("http://").partition(":")
    picture = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    if protocol == "ws":
        message = pack({"primary": picture, "instruction": INSTRUCTION})
        asking = [_ask_socket(host, int(port), address, priority, message, got) for _ in range(num_connections)]
    else:
        body = json.dumps({"instruction": INSTRUCTION, "image": encoded(picture), "num_samples": num_samples}).encode()
        head = f"POST /predict HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        head += f"X-Priority: {priority}\r\nContent-Length: {len(body)}\r\n\r\n"
        message = head.encode() + body
        asking = [_ask_http(host, int(port), address, message, got) for _ in range(num_connections)]
    tasks = [asyncio.create_task(each) for each in asking]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    is_over.set()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(json.dumps(got), flush=True)


def _compute(is_over: threading.Event) -> None:
    while not is_over.is_set():
        hashlib.sha256(bytes(2**20))


async def _ask_http(host: str, port: int, address: str, message: bytes, got: Counter[str]) -> None:
    while True:
        reader, writer = await asyncio.open_connection(host, port, local_addr=(address, 0))
        try:
            while True:
                writer.write(message)
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.split("content-length:")[1].split("\r\n")[0])
                reply = await reader.readexactly(length)
                status = head.split()[1]
                got["ok" if status == "200" else json.loads(reply)["error"]["code"]] += 1
        except (OSError, asyncio.IncompleteReadError):
            got["broken connection"] += 1
        finally:
            writer.close()


async def _ask_socket(host: str, port: int, address: str, priority: str, message: bytes, got: Counter[str]) -> None:
    while True:
        try:
            headers = {"X-Priority": priority}
            options: dict[str, Any] = {"local_addr": (address, 0), "compression": None, "max_size": None}
            async with connect(f"ws://{host}:{port}/", additional_headers=headers, **options) as socket:
                await socket.recv()
                while True:
                    await socket.send(message)
                    reply = await socket.recv()
                    got[reply.partition(":")[0] if isinstance(reply, str) else _is_action(reply)] += 1
        except Exception as error:  # noqa: PERF203
            got[type(error).__name__] += 1
            await asyncio.sleep(1.0)


def _is_action(reply: bytes) -> str:
    return "ok" if "actions" in unpack(reply) else "no action"


if __name__ == "__main__":
    main()
