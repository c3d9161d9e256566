"""Clients as they are released, each in an environment of its own, run whole episodes against a live server.

`make conformance` runs all of them and writes what came out into docs/clients.md; `--only` chooses some.
"""

import datetime
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import tyro
from releases import RELEASES, Release

from vla_server_base.config import ServerConfig
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "clients.md"
TABLE = re.compile(r"(?<=<!-- conformance -->\n).*?(?=<!-- end -->)", re.DOTALL)
LIMIT_S = 1200
FIND_PYTHON = HERE.parent / ".ci" / "find-python"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How it went."""

    release: Release
    python: str
    said: str


class NotInstalled(Exception):
    """A client cannot be installed here; the message says why."""


def main(only: tuple[str, ...] = (), quick: bool = False, write: bool = False) -> None:
    """Run clients as they are released, and fail if one fails or cannot be installed.

    Args:
        only: Which of them, such as `openpi-0.1.2-numpy2 libero`; all by default.
        quick: Leave out older releases, and those that bring PyTorch or a simulator.
        write: Put the table into docs/clients.md if all pass.
    """
    if unknown := set(only) - {release.name for release in RELEASES}:
        known = ", ".join(release.name for release in RELEASES)
        sys.exit(f"no client is called {', '.join(sorted(unknown))}; there are: {known}")
    if write and (only or quick):
        sys.exit("the page is written from a run of all clients: leave out --only and --quick")
    chosen = [one for one in RELEASES if (not only or one.name in only) and (not quick or one.is_quick)]
    outcomes = [run(release) for release in chosen]
    print(table(outcomes))
    failed = [outcome.release.name for outcome in outcomes if outcome.said != "passed"]
    if failed:
        sys.exit(f"{len(failed)} of {len(outcomes)} did not pass: {' '.join(failed)}")
    if write:
        PAGE.write_text(TABLE.sub(lambda _: table(outcomes), PAGE.read_text()))


def run(release: Release) -> Outcome:
    """Install a client, let it run against a server of its own, and say how that went."""
    started = time.perf_counter()
    python = "-"
    # Beside the repository's files, so that an environment may share files with uv's cache.
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".venv-") as folder:
        try:
            executable, python = installed(release, Path(folder))
            with served(release) as port:
                said = ended(release, executable, port)
        except NotInstalled as error:
            said = f"not installed: {error}"
    print(f"{release.name}  {said}  {time.perf_counter() - started:.1f} s", flush=True)
    return Outcome(release=release, python=python, said=said)


def installed(release: Release, folder: Path) -> tuple[Path, str]:
    """Make an environment with the client, and return its Python with its version.

    Raises:
        NotInstalled: there is no such Python here, or the package index has not what is needed.
    """
    uv("venv", "--quiet", "--no-project", "--clear", "--python", python_for(release), str(folder))
    overrides = folder / "overrides.txt"
    overrides.write_text("\n".join(release.overrides))
    executable = folder / "bin" / "python"
    options = ["--python", str(executable), "--exclude-newer", pinned_date(), "--overrides", str(overrides)]
    uv("pip", "install", "--quiet", *options, "--requirements", str(HERE / release.script), *release.packages)
    version = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    return executable, version


def python_for(release: Release) -> str:
    """Return the Python to install a client for.

    Raises:
        NotInstalled: this machine has none that the client runs on.
    """
    if "{}.{}".format(*sys.version_info) in release.pythons:
        return sys.executable
    found = subprocess.run(["bash", FIND_PYTHON, *release.pythons], stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        raise NotInstalled(f"it runs on Python {', '.join(release.pythons)}, and this machine has none of them")
    return found.stdout.strip()


def uv(*arguments: str) -> None:
    """Run uv, which says to what it runs where it is itself.

    Raises:
        NotInstalled: with why uv failed.
    """
    command = [os.environ.get("UV", "uv"), *arguments]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise NotInstalled(" ".join(result.stderr.split()))


def pinned_date() -> str:
    """Return the date that pins what the base's environment is resolved to."""
    found = re.search(r'exclude-newer = "([^"]+)"', (HERE.parent / "vla-server-base" / "pyproject.toml").read_text())
    assert found is not None, "the base pins its environment"
    return found[1]


@contextmanager
def served(release: Release) -> Iterator[int]:
    """Serve the echo policy, to one client alone, and give the port that it talks to."""
    ports = {release.transport: free_port()}
    config = ServerConfig(zmq_port=ports.get("zmq", 0), lerobot_port=ports.get("lerobot", 0), scene_workers=1)
    with serving(create_vla_app(release.policy(), config, model_id="echo")) as url:
        while not httpx.get(f"{url}/healthz").is_success:
            time.sleep(0.1)
        yield int(url.rpartition(":")[2]) if release.transport == "http" else ports[release.transport]


def ended(release: Release, executable: Path, port: int) -> str:
    """Let the client's script run, and return how it ended."""
    command = [executable, HERE / release.script, "--port", str(port), *release.arguments]
    try:
        returncode = subprocess.run(command, timeout=LIMIT_S, check=False).returncode
    except subprocess.TimeoutExpired:
        return f"failed (no end within {LIMIT_S} s)"
    return "passed" if returncode == 0 else f"failed ({returncode})"


def table(outcomes: list[Outcome]) -> str:
    """Return the table for the page."""
    rows = [
        (o.release.title, o.release.version, o.python, f"`conformance/{o.release.script}`", o.said) for o in outcomes
    ]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    today = datetime.datetime.now(datetime.timezone.utc).date()
    head = ["| Client | Version | Python | Script | Outcome |", "|---|---|---|---|---|"]
    return "\n".join([*head, *lines, "", f"As of {today}.", ""])


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


if __name__ == "__main__":
    tyro.cli(main)
