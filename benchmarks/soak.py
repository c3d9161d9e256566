"""Whether a server stays as it is under everything at once: memory, descriptors and threads over hours.

    cd vla-servers/octo-small && uv run python ../../benchmarks/soak.py [--minutes 30]

Clients of all protocols come and go, scenes change, episodes are begun and abandoned, bodies are wrong and sockets are
cut, and every 20 s a scene worker is killed. Prints Markdown: a sample every `--every` seconds, and a verdict that
compares the median of the last third of the samples with that of the third before it. Fails where one has grown
beyond its bound, or where a client that did nothing wrong got no answer.
"""

import argparse
import contextlib
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import httpx
from mixed_clients import INSTRUCTION, KINDS, SCENE, Address
from server import Server, add_figures, free_port, machine, running

MODEL = "bundled://tabletop"
NUM_CLIENTS = 6
WORKER_KILLS_S = 20.0
# By how much the last third of the samples may exceed the third before it: a share, and a number beside it.
BOUNDS = {
    "server MB": (0.02, 8.0),
    "workers MB": (0.1, 60.0),
    "descriptors": (0.0, 8.0),
    "threads": (0.0, 4.0),
    "tasks": (0.0, 12.0),
    "sessions": (0.0, 20.0),
    "queue": (0.0, 8.0),
}
# What is kept within a limit reaches it in the first minutes: what grows later is a leak.
SOON_FULL = {
    "VLA_SESSION_IDLE_S": "60",
    "VLA_EPISODE_KEEP_S": "60",
    "VLA_SCENE_STORE_MB": "4",
    "VLA_GEOMETRY_STORE_MB": "4",
}
# The server's own program, which writes the number of its asyncio tasks into a file whenever it is asked by a signal.
COUNTING = """
import asyncio, os, pathlib, signal
def count(*_):
    pathlib.Path(os.environ["SOAK_TASKS"]).write_text(str(len(asyncio.all_tasks())))
signal.signal(signal.SIGUSR1, count)
from octo_service.cli import main
main()
"""


@dataclass(frozen=True, kw_only=True)
class Soak:
    """One run: the server, when it ends, and what its clients got."""

    address: Address
    pid: int
    ends_at: float
    answers: Counter[str]
    lost: list[str]

    @property
    def goes_on(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.ends_at


def main() -> None:
    """Run, print samples, and judge them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two samples")
    parser.add_argument("--json", type=Path, help="add all figures to this file")
    arguments = parser.parse_args()
    ports = {"VLA_ZMQ_PORT": str(free_port()), "VLA_LEROBOT_PORT": str(free_port())}
    with tempfile.TemporaryDirectory() as folder:
        tasks = Path(folder) / "tasks"
        settings = {**ports, **SOON_FULL, "SOAK_TASKS": str(tasks)}
        with running(MODEL, None, ("-c", COUNTING, "serve"), **settings) as server:
            address = Address(
                url=server.url, zmq_port=int(ports["VLA_ZMQ_PORT"]), lerobot_port=int(ports["VLA_LEROBOT_PORT"])
            )
            ends_at = time.monotonic() + 60 * arguments.minutes
            soak = Soak(address=address, pid=server.process.pid, ends_at=ends_at, answers=Counter(), lost=[])
            samples = run(soak, server, tasks, arguments.every)
    grown = verdict(samples)
    print(f"\nAnswers: {', '.join(f'{count} {kind}' for kind, count in sorted(soak.answers.items()))}.")
    add_figures(arguments.json, "soak", {"samples": samples, "answers": dict(soak.answers), "lost": soak.lost})
    for reason in soak.lost[:20]:
        print(f"LOST: {reason}", file=sys.stderr)
    if grown or soak.lost:
        sys.exit(f"FAILED: grown: {', '.join(grown) or 'nothing'}; answers lost: {len(soak.lost)}")


def run(soak: Soak, server: Server, tasks: Path, every_s: float) -> list[dict[str, float]]:
    """Let all kinds of clients loose, and sample the server until the end."""
    work = [*[talk] * NUM_CLIENTS, change_scenes, abandon_episodes, send_nonsense, kill_workers]
    threads = [threading.Thread(target=each, args=(soak, random.Random(seed))) for seed, each in enumerate(work)]
    for thread in threads:
        thread.start()
    print(
        f"{machine()}; {MODEL}, {len(work)} clients.\n\n| minutes | {' | '.join(BOUNDS)} |\n|---{'|---' * len(BOUNDS)}|"
    )
    started, samples = time.monotonic(), []
    while soak.goes_on:
        time.sleep(every_s)
        sample = sampled(soak, server, tasks)
        samples.append(sample)
        minutes = (time.monotonic() - started) / 60
        print(f"| {minutes:.1f} | {' | '.join(f'{sample[name]:.0f}' for name in BOUNDS)} |", flush=True)
    for thread in threads:
        thread.join()
    return samples


def sampled(soak: Soak, server: Server, tasks: Path) -> dict[str, float]:
    """Return what the server takes now."""
    load = httpx.get(f"{soak.address.url}/load", timeout=60).json()
    os.kill(soak.pid, signal.SIGUSR1)
    time.sleep(0.5)
    return {
        "server MB": server.memory_mb(),
        "workers MB": sum(memory_mb(pid) for pid in workers_of(soak.pid)),
        "descriptors": len(os.listdir(f"/proc/{soak.pid}/fd")),
        "threads": len(os.listdir(f"/proc/{soak.pid}/task")),
        "tasks": int(tasks.read_text() or 0) if tasks.exists() else 0,
        "sessions": load["sessions"]["num"],
        "queue": load["queue"]["waiting"],
    }


def verdict(samples: list[dict[str, float]]) -> list[str]:
    """Print how much each number has grown, and return those that have grown beyond their bound."""
    third = len(samples) // 3
    if not third:
        return []
    grown = []
    print("\n| | median of the second third | of the last third | may grow by | verdict |\n|---|---|---|---|---|")
    for name, (share, number) in BOUNDS.items():
        before, after = (median(s[name] for s in part) for part in (samples[third:-third], samples[-third:]))
        allowed = max(share * before, number)
        is_flat = after - before <= allowed
        grown += [] if is_flat else [name]
        print(f"| {name} | {before:.0f} | {after:.0f} | {allowed:.0f} | {'flat' if is_flat else 'GROWN'} |")
    return grown


def talk(soak: Soak, chance: random.Random) -> None:
    """Be one client after another, each for some steps."""
    while soak.goes_on:
        kind, seed = chance.choice(list(KINDS)), chance.randrange(10**6)
        with contextlib.ExitStack() as stack:
            try:
                client = KINDS[kind](soak.address, seed)
                stack.callback(client.close)
                for step in range(chance.randint(1, 12)):
                    client.ask(step)
                    soak.answers[kind] += 1
            except httpx.HTTPStatusError as error:
                soak.answers[f"{error.response.status_code}"] += 1
                if "retry-after" not in error.response.headers:
                    soak.lost.append(f"{kind}: {error.response.text[:200]}")
                time.sleep(float(error.response.headers.get("retry-after", 1)))
            except Exception as error:
                soak.lost.append(f"{kind}: {error!r}")


def change_scenes(soak: Soak, chance: random.Random) -> None:
    """Send one new scene after another, some as geometry, some that cannot be."""
    with httpx.Client(base_url=soak.address.url, timeout=60) as client:
        while soak.goes_on:
            xml = f"{SCENE}<!-- {chance.random()} -->" if chance.random() < 0.8 else f"<mujoco><{chance.random()}/>"
            path = chance.choice(["/predict", "/scenes/geometry"])
            body = {"instruction": INSTRUCTION} if path == "/predict" else {}
            reply = client.post(path, json={**body, "xml_string": xml})
            soak.answers[f"scene {reply.status_code}"] += 1
            time.sleep(0.5)


def abandon_episodes(soak: Soak, chance: random.Random) -> None:
    """Begin episodes, and leave: unread, in the middle of the stream, or in the middle of /execute."""
    body = {"instruction": INSTRUCTION, "xml_string": SCENE, "max_steps": 200, "frames": "jpeg"}
    with httpx.Client(base_url=soak.address.url, timeout=60) as client:
        while soak.goes_on:
            begun = client.post("/episodes", json=body)
            soak.answers[f"episode {begun.status_code}"] += 1
            if begun.status_code == 201 and chance.random() < 0.7:
                path = f"/episodes/{begun.json()['episode_id']}"
                with client.stream("GET", f"{path}/events") as events:
                    next(events.iter_raw(), None)
                client.delete(path)
            with client.stream("POST", "/execute", json=body, headers={"Accept": "text/event-stream"}) as events:
                next(events.iter_raw(), None)
            time.sleep(1.0)


def send_nonsense(soak: Soak, chance: random.Random) -> None:
    """Send bodies that are wrong, and cut connections in the middle."""
    address = urlsplit(soak.address.url)
    half = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"
    upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x82\xfe"
    with httpx.Client(base_url=soak.address.url, timeout=60) as client:
        while soak.goes_on:
            wrong = chance.choice([{}, [], {"image": "?"}, {"instruction": 1}, {"xml_string": "<mujoco/>"}])
            reply = client.post(chance.choice(["/predict", "/act", "/execute"]), json=wrong)
            soak.answers[f"nonsense {reply.status_code}"] += 1
            with socket.create_connection((address.hostname or "", address.port or 0)) as cut:
                cut.sendall(chance.choice([half, upgrade, b"\x00" * 100, b"GET /health HTTP/1.1\r\n"]))
            time.sleep(0.1)


def kill_workers(soak: Soak, chance: random.Random) -> None:
    """Kill a scene worker now and then."""
    while soak.goes_on:
        time.sleep(min(WORKER_KILLS_S, max(0.0, soak.ends_at - time.monotonic())))
        if workers := workers_of(soak.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(workers), signal.SIGKILL)
            soak.answers["worker killed"] += 1


def workers_of(pid: int) -> list[int]:
    """Return the processes that a server has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def memory_mb(pid: int) -> float:
    """Return what a process takes; 0 if it has just ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, IndexError):
        return 0.0


if __name__ == "__main__":
    main()
