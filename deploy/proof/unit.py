"""Runs vla-server.service under a real systemd and tries it: `make prove-unit`, after `make prove-image`.

The image's root gets Debian's systemd and boots it as process 1 of its own, with the environment of the operator's
page. The unit must serve a scene that a confined worker draws, come back after SIGKILL, end within its time, and stay
ended when its model cannot be loaded. Takes root and the network.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from asking import KEY, is_ready, show_answer

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd"
READY_S = 300
PORT = 18003
ADDRESS = f"http://127.0.0.1:{PORT}"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "image", help="the folder of `make prove-image`")
    parser.add_argument("--in-namespace", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.in_namespace:
        command = ["unshare", "--mount", "--fork", "--kill-child", sys.executable, *sys.argv, "--in-namespace"]
        sys.exit(subprocess.run(command, check=False).returncode)
    root = install(options.work)
    boot = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--kill-child", "sh", "-c", mounts(root)]
    )
    try:
        try_unit(Machine(boot.pid), root)
    finally:
        boot.kill()


def install(work: Path) -> Path:
    """Return a root with the image's server, systemd and the unit, as the operator's page installs them."""
    root = work / "systemd"
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "-a", work / "stage-1", root], check=True)
    for mount in ("proc", "dev"):
        subprocess.run(["mount", "--rbind", f"/{mount}", root / mount], check=True)
    packages = "apt-get -qq update && apt-get -qq install --yes --no-install-recommends systemd systemd-sysv >/dev/null"
    subprocess.run(["chroot", root, "sh", "-c", packages], check=True, stderr=subprocess.DEVNULL)
    for mount in ("proc", "dev"):
        subprocess.run(["umount", "--recursive", "--lazy", root / mount], check=True)
    shutil.copy(UNIT / "vla-server.service", root / "etc" / "systemd" / "system")
    (root / "etc" / "sysusers.d").mkdir(exist_ok=True)
    shutil.copy(UNIT / "vla-server.conf", root / "etc" / "sysusers.d")
    subprocess.run(["chroot", root, "systemd-sysusers"], check=True)
    (root / "etc" / "vla-server").mkdir()
    set_model(root, "bundled://tabletop")
    return root


def set_model(root: Path, model: str) -> None:
    lines = [f"OCTO_MODEL={model}", f"VLA_PORT={PORT}", f"VLA_API_KEYS=proof={KEY}", "VLA_SCENE_CONFINEMENT=required"]
    (root / "etc" / "vla-server" / "environment").write_text("\n".join(lines) + "\n")


def mounts(root: Path) -> str:
    """Return a script that mounts what systemd finds on a machine, and becomes it."""
    devices = " ".join(f"&& touch {root}/dev/{name} && mount --bind /dev/{name} {root}/dev/{name}" for name in DEVICES)
    return (
        f"mount --make-rprivate / && mount --bind {root} {root} && mount -t proc proc {root}/proc"
        f" && mount -t sysfs sysfs {root}/sys && mount -t cgroup2 none {root}/sys/fs/cgroup"
        f" && mount -t tmpfs none {root}/run && mount -t tmpfs none {root}/tmp"
        f" && mount -t tmpfs -o mode=755 none {root}/dev"
        f" {devices} && exec chroot {root} env -i container=proof /lib/systemd/systemd --unit=multi-user.target"
    )


class Machine:
    """A systemd that runs as process 1 of its own."""

    def __init__(self, boot: int):
        deadline = time.monotonic() + 60
        while True:
            children = Path(f"/proc/{boot}/task/{boot}/children").read_text().split()
            self._enter = ["nsenter", "--target", *children[:1], "--mount", "--pid", "--cgroup", "--root", "--wd"]
            if children and self.run("systemctl", "is-system-running", check=False) in ("running", "degraded"):
                return
            assert time.monotonic() < deadline, "systemd did not start"
            time.sleep(0.5)

    def run(self, *command: str, check: bool = True) -> str:
        """Run a program on it, and return what it printed."""
        result = subprocess.run([*self._enter, *command], capture_output=True, text=True, check=False)
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result.stdout.strip()

    def shown(self, setting: str) -> str:
        return self.run("systemctl", "show", "--value", f"--property={setting}", "vla-server")

    def log(self) -> str:
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit=vla-server")


def try_unit(machine: Machine, root: Path) -> None:
    print(machine.run("systemctl", "--version").splitlines()[0])
    machine.run("systemctl", "start", "vla-server")
    wait_until_ready(machine)
    show_answer(ADDRESS)
    print(
        "user", machine.run("ps", "-o", "user=", "-p", machine.shown("MainPID"), check=False) or machine.shown("User")
    )

    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=SIGKILL", "vla-server")
    wait_until(lambda: machine.shown("NRestarts") == "1", machine)
    wait_until_ready(machine)
    print("came back after SIGKILL")

    started = time.monotonic()
    machine.run("systemctl", "stop", "vla-server")
    assert machine.shown("Result") == "success", machine.log()
    print(f"stopped in {time.monotonic() - started:.1f} s, exit code {machine.shown('ExecMainStatus')}")

    set_model(root, "/nothing/here")
    machine.run("systemctl", "start", "vla-server", check=False)
    wait_until(lambda: machine.shown("ActiveState") == "failed", machine)
    assert (machine.shown("ExecMainStatus"), machine.shown("NRestarts")) == ("3", "0"), machine.log()
    print("without its model: exit code 3, and no restart")


def wait_until_ready(machine: Machine) -> None:
    wait_until(lambda: is_ready(ADDRESS) or machine.shown("ActiveState") == "failed", machine)
    assert machine.shown("ActiveState") == "active", machine.log()


def wait_until(condition: Callable[[], bool], machine: Machine) -> None:
    deadline = time.monotonic() + READY_S
    while not condition():
        assert time.monotonic() < deadline, machine.log()
        time.sleep(0.5)


if __name__ == "__main__":
    main()
