"""Whether the simulation tells what a server does: a whole server on this machine, measured and simulated in turns."""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fleet_simulation import Replicas, Service, simulate
from robots import Asked, Beat, Order, drive, in_time, latency_ms
from server import Server, add_figures, machine, running

from vla_server_base.config import ServerConfig
from vla_server_base.engine.batches import RequestQueue

QUIET_S = 10.0
"""For so long nobody asks at first: programs that requests seldom need are compiled meanwhile."""

NUM_PACED, NUM_SATURATING = 12, 4
"""How many robots that do not meet, and how many that ask at once, tell the server's times.

Fewer would meet an idle processor that has to wake up for each, which takes longer than a busy one.
"""

WARM_UP_S = 1.0
_LEAST_SPEED = 0.25


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What the server takes for a request while it has little to do, and how many it answers a second at most [s]."""

    latencies_s: Sequence[float]
    infer_s: Sequence[float]
    per_second: float

    @property
    def device_s(self) -> float:
        """What the device takes for a request while nothing else works."""
        return statistics.median(self.infer_s)

    @property
    def python_s(self) -> float:
        """What the rest takes, of which a fifth is the reply."""
        return statistics.mean(self.latencies_s) - self.device_s

    def service(self) -> Service:
        """Return what each part of a request takes; reading varies as much as the whole does."""
        write_s = 0.2 * self.python_s
        read_s = [max(0.0, each - self.device_s - write_s) for each in self.latencies_s]
        return Service(device_s=(self.device_s,), read_s=read_s, write_s=(write_s,))

    def replicas(self) -> Replicas:
        """Return one server whose Python and device slow each other down as much as its answers a second say.

        For each answer the longer part works alone for what it is longer, and both together for the rest.
        """
        short_s, long_s = sorted((self.device_s, self.python_s))
        together_s = 1 / self.per_second - (long_s - short_s)
        return Replicas(speed_beside=min(1.0, max(_LEAST_SPEED, short_s / together_s if together_s > 0 else 1.0)))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what a validation needs to know."""
    parser.add_argument("--validate", action="store_true", help="compare with a server on this machine")
    parser.add_argument("--model", default="bundled://tabletop", help="of the validation")
    parser.add_argument("--period", type=float, default=0.2, help="of the validation's robots [s]")
    parser.add_argument("--deadline", type=float, default=0.15, help="of the validation's robots [s]")
    parser.add_argument("--points", type=int, nargs="+", default=[16, 20, 24], help="numbers of robots to validate")
    parser.add_argument("--rounds", type=int, default=5, help="of the validation")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each part of a round")


def validate(arguments: argparse.Namespace) -> None:
    """Measure and simulate every number of robots in each round, and print medians over the rounds."""
    found: dict[int, list[dict[str, tuple[float, float]]]] = defaultdict(list)
    calibrations = []
    with running(arguments.model) as server:
        time.sleep(QUIET_S)
        for _ in range(arguments.rounds):
            before = _paced(server, arguments)
            measured = {
                number: _drive(server, _beats_of(number, arguments), arguments.seconds) for number in arguments.points
            }
            calibration = _calibration(server, before, arguments)
            calibrations.append(calibration)
            for number, asked in measured.items():
                found[number].append(_compare(asked, number, calibration, arguments))
    rate = statistics.median(each.per_second for each in calibrations)
    alone_ms = 1e3 * statistics.median(statistics.median(each.latencies_s) for each in calibrations)
    print(f"{machine()}; {arguments.model}, {arguments.rounds} rounds; a request takes {alone_ms:.1f} ms alone,")
    print(f"at most {rate:.0f} are answered a second. Measured, simulated (difference), medians over the rounds.\n")
    names = ("answers /s", "in time /s", "p50 ms", "p99 ms")
    print(f"| robots | load | {' | '.join(names)} |\n|---|---|---|---|---|---|")
    rows = []
    for number, rounds in found.items():
        load = number / arguments.period / rate
        row: dict[str, Any] = {"robots": number, "load": load}
        for name in names:
            measured, simulated = (statistics.median(each[name][side] for each in rounds) for side in (0, 1))
            row[name] = {"measured": measured, "simulated": simulated, "off": simulated / measured - 1}
        rows.append(row)
        cells = ["{measured:.1f}, {simulated:.1f} ({off:+.0%})".format(**row[name]) for name in names]
        print(f"| {number} | {load:.2f} | {' | '.join(cells)} |")
    add_figures(arguments.json, f"fleet validation {arguments.model}", rows)


def _calibration(server: Server, before: Sequence[Asked], arguments: argparse.Namespace) -> Calibration:
    """Return what the server takes: by robots that do not meet, around a round, and by some that always ask."""
    greedy = [Beat(period_s=1e-4, deadline_s=10.0, phase_s=0.0) for _ in range(NUM_SATURATING)]
    saturated = [each for each in _drive(server, greedy, arguments.seconds) if each.came == "ok"]
    ended = sorted(each.at_s + each.latency_s for each in saturated)
    ok = [each for each in (*before, *_paced(server, arguments)) if each.came == "ok"]
    return Calibration(
        latencies_s=[each.latency_s for each in ok],
        infer_s=[each.infer_s for each in ok],
        per_second=(len(ended) - 1) / (ended[-1] - ended[0]),
    )


def _paced(server: Server, arguments: argparse.Namespace) -> list[Asked]:
    return _drive(server, _beats_of(NUM_PACED, arguments), arguments.seconds)


def _beats_of(number: int, arguments: argparse.Namespace) -> list[Beat]:
    period_s, deadline_s = arguments.period, arguments.deadline
    return [Beat(period_s=period_s, deadline_s=deadline_s, phase_s=period_s * each / number) for each in range(number)]


def _drive(server: Server, beats: Sequence[Beat], seconds: float) -> list[Asked]:
    url = server.url.replace("http", "ws")
    return drive(Order(url=url, beats=beats, seconds=seconds, warm_up_s=WARM_UP_S))


def _compare(
    measured: Sequence[Asked], number: int, calibration: Calibration, arguments: argparse.Namespace
) -> dict[str, tuple[float, float]]:
    """Return what was measured and what is simulated."""
    beats = _beats_of(number, arguments)
    simulated = simulate(
        beats,
        calibration.service(),
        calibration.replicas(),
        seconds=arguments.seconds,
        warm_up_s=WARM_UP_S,
        make_queue=lambda clock: RequestQueue(ServerConfig().max_queue, clock=clock),
    )
    both = measured, simulated.asked
    counted_s = arguments.seconds - WARM_UP_S
    return {
        "answers /s": _pair(sum(each.came == "ok" for each in asked) / counted_s for asked in both),
        "in time /s": _pair(len(in_time(asked, beats)) / counted_s for asked in both),
        "p50 ms": _pair(latency_ms(asked, 50) for asked in both),
        "p99 ms": _pair(latency_ms(asked, 99) for asked in both),
    }


def _pair(numbers: Any) -> tuple[float, float]:
    measured, simulated = numbers
    return measured, simulated
