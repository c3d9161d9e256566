"""Nothing is lost and nothing mixed up: closed-loop clients of all protocols at once, each compared with itself alone.

    cd vla-servers/octo-small && uv run python ../../benchmarks/reliability.py [--clients 1 4 16 64] [--steps 20]

Each client asks again as soon as it has its answer. One that is refused waits for as long as the reply says, and asks
again. The clients are threads of one process beside the server, and take processor time too. Prints Markdown; fails
where a request gets no answer, a refusal has no Retry-After, or an action is another than the client gets alone.
"""

import argparse
import contextlib
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from mixed_clients import KINDS, Address, Client
from server import add_figures, free_port, machine, running

MODEL = "bundled://tabletop"
LONGEST_WAIT_S = 120.0


@dataclass
class Run:
    """What one client met: the time of each answer [s], its actions, and what else it got."""

    kind: str
    times: list[float] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)


def main() -> None:
    """Measure every number of clients, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--steps", type=int, default=20, help="of each client")
    parser.add_argument("--json", type=Path, help="add all figures to this file")
    arguments = parser.parse_args()
    zmq_port, lerobot_port = free_port(), free_port()
    with running(MODEL, VLA_ZMQ_PORT=str(zmq_port), VLA_LEROBOT_PORT=str(lerobot_port)) as server:
        address = Address(url=server.url, zmq_port=zmq_port, lerobot_port=lerobot_port)
        alone = [one_client(address, number, arguments.steps) for number in range(max(arguments.clients))]
        print(f"{machine()}; {MODEL}, {arguments.steps} steps of each client.\n")
        print("| clients | answers | p50 ms | p99 ms | p99.9 ms | answers a second | refused | lost | mixed up |")
        print("|---|---|---|---|---|---|---|---|---|")
        found = [measure(address, number, arguments.steps, alone) for number in arguments.clients]
    print_by_kind(found[-1])
    add_figures(arguments.json, "reliability", [row for row, _ in found])
    if any(row["lost"] or row["mixed_up"] or row["without_retry_after"] for row, _ in found):
        sys.exit("FAILED: answers were lost or mixed up, or a refusal had no Retry-After")


def measure(address: Address, number: int, num_steps: int, alone: list[Run]) -> tuple[dict, list[Run]]:
    """Run so many clients at once, and print their row."""
    started = time.perf_counter()
    with ThreadPoolExecutor(number) as threads:
        runs = list(threads.map(lambda each: one_client(address, each, num_steps), range(number)))
    seconds = time.perf_counter() - started
    times_ms = 1e3 * np.concatenate([run.times for run in runs])
    refused: Counter[str] = sum((run.refused for run in runs), Counter())
    p50, p99, p999 = (float(each) for each in np.percentile(times_ms, (50, 99, 99.9)))
    row = {
        "clients": number,
        "answers": len(times_ms),
        "p50_ms": p50,
        "p99_ms": p99,
        "p999_ms": p999,
        "per_second": len(times_ms) / seconds,
        "refused": dict(refused),
        "without_retry_after": sum(count for code, count in refused.items() if code.endswith("without Retry-After")),
        "lost": [reason for run in runs for reason in run.lost],
        "mixed_up": sum(not same(run, whole) for run, whole in zip(runs, alone, strict=False)),
    }
    told = ", ".join(f"{count} {code}" for code, count in refused.items()) or "0"
    print(
        f"| {number} | {row['answers']} | {p50:.0f} | {p99:.0f} | {p999:.0f} | {row['per_second']:.1f} | {told}"
        f" | {len(row['lost'])} | {row['mixed_up']} |",
        flush=True,
    )
    for reason in row["lost"]:
        print(f"LOST: {reason}", file=sys.stderr)
    return row, runs


def same(run: Run, alone: Run) -> bool:
    """Say whether a client got the same actions as it got alone, to the bit; what was lost is counted elsewhere."""
    return all(np.array_equal(one, other) for one, other in zip(run.actions, alone.actions, strict=False))


def print_by_kind(measured: tuple[dict, list[Run]]) -> None:
    """Print how long each kind of client waited in the largest run."""
    row, runs = measured
    print(f"\nOf {row['clients']} clients, by what they speak:\n")
    print("| client | answers | p50 ms | p99 ms |\n|---|---|---|---|")
    for kind in KINDS:
        times = [1e3 * each for run in runs if run.kind == kind for each in run.times]
        if times:
            p50, p99 = np.percentile(times, (50, 99))
            print(f"| {kind} | {len(times)} | {p50:.0f} | {p99:.0f} |")


def one_client(address: Address, number: int, num_steps: int) -> Run:
    """Ask step after step, as the client of this number."""
    kind = list(KINDS)[number % len(KINDS)]
    run = Run(kind)
    with contextlib.ExitStack() as stack:
        client = KINDS[kind](address, number)
        stack.callback(client.close)
        for step in range(num_steps):
            started = time.perf_counter()
            try:
                run.actions.append(answer(client, step, run))
            except Exception as error:
                run.lost.append(f"{kind}, step {step}: {error!r}")
            else:
                run.times.append(time.perf_counter() - started)
    if kind.startswith("/predict,") and kind != "/predict, scene":
        prefix = "json" if kind.endswith("JSON") else "parts"
        httpx.delete(f"{address.url}/sessions/{prefix}-{number}")
    return run


def answer(client: Client, step: int, run: Run) -> np.ndarray:
    """Ask until there is an answer, and count the refusals before it."""
    deadline = time.monotonic() + LONGEST_WAIT_S
    while True:
        try:
            return client.ask(step)
        except httpx.HTTPStatusError as error:  # noqa: PERF203
            reply, retry_after = error.response, error.response.headers.get("retry-after")
            code = f"{reply.status_code} {reply.json()['error']['code']}"
            run.refused[code if retry_after else f"{code} without Retry-After"] += 1
            if not retry_after or time.monotonic() > deadline:
                raise
            time.sleep(float(retry_after))


if __name__ == "__main__":
    main()
