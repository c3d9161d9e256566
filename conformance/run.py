"""Clients as they are released, each in an environment of its own, run whole episodes against a live server.

`make conformance` runs all of them and writes what came out into docs/clients.md; `--only` chooses some.
"""

import datetime
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import tyro
from releases import ACT, RELEASES, Release
from servers import Served, Servers

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
        write: Put their rows into the table of docs/clients.md if all pass.
    """
    if unknown := set(only) - {release.name for release in RELEASES}:
        known = ", ".join(release.name for release in RELEASES)
        sys.exit(f"no client is called {', '.join(sorted(unknown))}; there are: {known}")
    chosen = [one for one in RELEASES if (not only or one.name in only) and (not quick or one.is_quick)]
    with ExitStack() as until_closed:
        servers = Servers(until_closed)
        outcomes = [run(release, servers) for release in chosen]
    print(table(outcomes))
    failed = [outcome.release.name for outcome in outcomes if outcome.said != "passed"]
    if failed:
        sys.exit(f"{len(failed)} of {len(outcomes)} did not pass: {' '.join(failed)}")
    if write:
        page = PAGE.read_text()
        PAGE.write_text(TABLE.sub(lambda found: table(outcomes, found[0]), page))


def run(release: Release, servers: Servers) -> Outcome:
    """Install a client, let it run against a server of its own, and say how that went."""
    started = time.perf_counter()
    python = "-"
    # Beside the repository's files, so that an environment may share files with uv's cache.
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".venv-") as folder:
        try:
            executable, python = installed(release, Path(folder))
            with servers.server_for(release) as served:
                said = ended(release, executable, served)
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


def ended(release: Release, executable: Path, served: Served) -> str:
    """Let the client's script run, and return how it ended."""
    command = [executable, HERE / release.script, "--port", str(served.ports[release.transport]), *release.arguments]
    if release.policy == ACT:  # What came is compared with POST /predict.
        command += ["--url", served.url]
    try:
        returncode = subprocess.run(command, timeout=LIMIT_S, check=False).returncode
    except subprocess.TimeoutExpired:
        return f"failed (no end within {LIMIT_S} s)"
    return "passed" if returncode == 0 else f"failed ({returncode})"


def table(outcomes: list[Outcome], last: str = "") -> str:
    """Return the table for the page; what was not run keeps the row, with its date, of the last table."""
    today = str(datetime.datetime.now(datetime.timezone.utc).date())
    rows = {start_of(o.release): [o.python, f"`conformance/{o.release.script}`", o.said, today] for o in outcomes}
    kept = [line for line in last.splitlines() if line.startswith("| ")]
    lines = []
    for start in map(start_of, RELEASES):
        if start in rows:
            lines.append(f"{start}{' | '.join(rows[start])} |")
        else:
            lines += [line for line in kept if line.startswith(start)]
    head = ["| Client | Version | Python | Script | Outcome | On |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *lines, ""])


def start_of(release: Release) -> str:
    """Return how a release's row begins, which no other's does."""
    return f"| {release.title} | {release.version} | "


if __name__ == "__main__":
    tyro.cli(main)
