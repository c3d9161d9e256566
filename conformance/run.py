"""Clients from the package index, each in an environment of its own, run whole episodes against a live server.

`make conformance` runs all of them and writes what came out into docs/clients.md; names choose some.
"""

import datetime
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal, get_args

import httpx
import tyro

from vla_server_base.app import create_vla_app
from vla_server_base.config import ServerConfig
from vla_server_base.serving import serving
from vla_server_base.testing import EchoAdapter

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "clients.md"
TABLE = re.compile(r"(?<=<!-- conformance -->\n).*?(?=<!-- end -->)", re.DOTALL)
Client = Literal["openpi", "vla_eval", "openvla", "gr00t", "lerobot"]
CLIENTS: tuple[Client, ...] = get_args(Client)
LIMIT_S = 1200


def main(
    clients: tyro.conf.Positional[tuple[Client, ...]] = CLIENTS, write: bool = False, lerobot_python: str | None = None
) -> None:
    """Run clients from the package index, and fail if one does.

    Args:
        clients: Which of them; all by default.
        write: Put what came out into docs/clients.md.
        lerobot_python: A Python that has lerobot[async] already, such as one with a CPU's PyTorch.
    """
    ports = {"gr00t": free_port(), "lerobot": free_port()}
    config = ServerConfig(zmq_port=ports["gr00t"], lerobot_port=ports["lerobot"], scene_workers=1)
    rows = []
    with serving(create_vla_app(EchoAdapter(), config, model_id="echo")) as url:
        while not httpx.get(f"{url}/healthz").is_success:
            time.sleep(0.1)
        for client in clients:
            port = ports.get(client) or int(url.rpartition(":")[2])
            python = lerobot_python if client == "lerobot" else None
            rows.append((client, *run(HERE / f"with_{client}.py", port, python)))
            print(*rows[-1], sep="  ", flush=True)
    if write:
        PAGE.write_text(TABLE.sub(table(rows), PAGE.read_text()))
    sys.exit(any(outcome != "passed" for _, _, outcome, _ in rows))


def run(script: Path, port: int, python: str | None) -> tuple[str, str, float]:
    """Return what a client's script installs, how it ended, and how long that took [s], installation included.

    With a `python` that has it all, nothing is installed.
    """
    started = time.perf_counter()
    options = ["--quiet", "--no-project", "--python", sys.executable, "--exclude-newer", pinned_date()]
    # uv says to what it runs where it is itself.
    start = [os.environ.get("UV", "uv"), "run", *options, "--script"] if python is None else [python]
    ended = subprocess.run([*start, str(script), "--port", str(port)], timeout=LIMIT_S, check=False)
    outcome = "passed" if ended.returncode == 0 else f"failed ({ended.returncode})"
    return packages(script), outcome, round(time.perf_counter() - started, 1)


def pinned_date() -> str:
    """Return the date that pins what the base's environment is resolved to."""
    found = re.search(r'exclude-newer = "([^"]+)"', (HERE.parent / "vla-server-base" / "pyproject.toml").read_text())
    assert found is not None, "the base pins its environment"
    return found[1]


def packages(script: Path) -> str:
    """Return the first package that a script names, with its version."""
    found = re.search(r'dependencies = \[\s*"([^"]+)"', script.read_text())
    assert found is not None, "a client's script says what it needs"
    return found[1].replace("==", " ")


def table(rows: list[tuple[str, str, str, float]]) -> str:
    """Return the table for the page."""
    lines = [f"| {package} | `conformance/with_{client}.py` | {outcome} |" for client, package, outcome, _ in rows]
    today = datetime.datetime.now(datetime.timezone.utc).date()
    return "\n".join(["| Client | Script | Outcome |", "|---|---|---|", *lines, "", f"As of {today}.", ""])


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


if __name__ == "__main__":
    tyro.cli(main)
