"""Carries out deploy/docker/Dockerfile without a container engine, and tries the image: `make prove-image`.

A base image `debian:SUITE-slim` is what debootstrap makes of that suite. Each instruction then runs in that root, in
mounts of its own. The final image is started as an engine starts it: process 1 of its own, the numeric user, nothing
writable but /tmp and the volume. Takes root, debootstrap and the network.

It checks that the image has no compiler and no uv, that HEALTHCHECK turns healthy, that a request with a scene is
answered, that a killed scene worker is replaced and buried, and that SIGTERM ends it with exit code 0 within its grace.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from asking import KEY, show_answer
from dockerfile import Instruction, read, stages, substitute

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
READY_S = 300
GRACE_S = 5 + 4
"""VLA_SHUTDOWN_GRACE_S, and what the server takes after it."""
TRUSTED = Path("/etc/ssl/certs/ca-certificates.crt")
NOT_IN_AN_IMAGE = ("gcc", "cc", "g++", "make", "uv", "pip", "pip3", "npm", "node", "git", "curl")


@dataclass(kw_only=True)
class Image:
    """A root folder, and what the instructions said of the processes in it."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": os.environ["PATH"]})
    arguments: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    volumes: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def run(self, script: str, **variables: str) -> None:
        """Run a line of shell in the root, as RUN does."""
        environment = {**self.arguments, **self.environment, **variables}
        subprocess.run(
            ["chroot", self.root, "/bin/sh", "-c", f"cd {self.folder} && {script}"], env=environment, check=True
        )


def main() -> None:
    options = parse_options()
    if not options.in_namespace:
        # Mounts, and whatever is left running, end with this process.
        command = [
            "unshare",
            "--mount-proc",
            "--pid",
            "--fork",
            "--kill-child",
            sys.executable,
            *sys.argv,
            "--in-namespace",
        ]
        sys.exit(subprocess.run(command, check=False).returncode)
    options.work.mkdir(parents=True, exist_ok=True)
    instructions = read(DOCKER / "Dockerfile")
    given = dict(pair.split("=", 1) for pair in options.build_arg)
    built: dict[str, Image] = {}
    image = Image(root=options.work)
    for number, stage in enumerate(stages(instructions)):
        name = stage[0].words[2] if len(stage[0].words) > 1 else str(number)
        image = Image(root=options.work / f"stage-{name}")
        built[name] = image
        if options.keep:
            for instruction in stage[1:]:
                if instruction.name not in ("RUN", "COPY", "WORKDIR"):
                    obey(image, instruction, built, given)
        else:
            build(image, stage, built, {**defaults(instructions), **given}, given, options.work)
    try_image(image, dict(pair.split("=", 1) for pair in options.env), options.port)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "image", help="folder for the roots, 5 GB")
    parser.add_argument("--keep", action="store_true", help="try the image that was made last, without making it again")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--env", action="append", default=["OCTO_MODEL=bundled://tabletop"], metavar="NAME=VALUE")
    parser.add_argument("--port", type=int, default=18002)
    parser.add_argument("--in-namespace", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def defaults(instructions: list[Instruction]) -> dict[str, str]:
    """Return the arguments that stand before the first stage."""
    first = [each.name for each in instructions].index("FROM")
    return dict(each.words[0].split("=", 1) for each in instructions[:first])


def build(
    image: Image,
    stage: list[Instruction],
    built: Mapping[str, Image],
    before: Mapping[str, str],
    given: Mapping[str, str],
    work: Path,
) -> None:
    """Carry out the instructions of one stage."""
    shutil.rmtree(image.root, ignore_errors=True)
    subprocess.run(["cp", "-a", base(substitute(stage[0].words[0], before), work), image.root], check=True)
    for mount in ("proc", "dev"):
        subprocess.run(["mount", "--rbind", f"/{mount}", image.root / mount], check=True)
    lend_the_network(image.root)
    for instruction in stage[1:]:
        print(f"{instruction.name} {instruction.text[:100]}", flush=True)
        obey(image, instruction, built, given)
    for mount in ("proc", "dev"):
        subprocess.run(["umount", "--recursive", "--lazy", image.root / mount], check=True)


def base(name: str, work: Path) -> Path:
    """Return the root that stands for an image `debian:SUITE-slim`, made once."""
    suite = name.removeprefix("debian:").removesuffix("-slim")
    folder = work / f"debian-{suite}"
    if not (folder / "complete").exists():
        subprocess.run(["debootstrap", "--variant=minbase", suite, folder], check=True, stdout=subprocess.DEVNULL)
        (folder / "complete").touch()
    return folder


def lend_the_network(root: Path) -> None:
    """Give the build this machine's resolver and trusted certificates, as an engine gives its containers its own."""
    shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
    if TRUSTED.exists():
        (root / "usr" / "local" / "share" / "lent").mkdir()
        shutil.copy(TRUSTED, root / "usr" / "local" / "share" / "lent")


def obey(image: Image, instruction: Instruction, built: Mapping[str, Image], given: Mapping[str, str]) -> None:
    """Carry out one instruction.

    Raises:
        ValueError: nothing here knows such an instruction.
    """
    values = {**image.arguments, **image.environment}
    match instruction.name:
        case "RUN":
            lent = "/usr/local/share/lent/ca-certificates.crt"
            image.run(instruction.text, PIP_CERT=lent, SSL_CERT_FILE=lent, NODE_EXTRA_CA_CERTS=lent)
        case "COPY":
            copy(image, instruction, built)
        case "ARG":
            name, _, default = substitute(" ".join(instruction.words), values).partition("=")
            image.arguments[name] = given.get(name, default)
        case "ENV":
            image.environment |= dict(word.split("=", 1) for word in instruction.words)
        case "WORKDIR":
            image.folder = instruction.text
            inside(image.root, image.folder).mkdir(parents=True, exist_ok=True)
        case "USER":
            image.user = instruction.text
        case "VOLUME":
            image.volumes += instruction.words
        case "HEALTHCHECK":
            image.healthcheck = json.loads(instruction.text.removeprefix("CMD "))
        case "ENTRYPOINT":
            image.entrypoint = instruction.words
        case "CMD":
            image.command = instruction.words
        case "EXPOSE" | "LABEL" | "STOPSIGNAL":
            pass
        case _:
            raise ValueError(f"{instruction.name} is not an instruction that this script carries out; add it to obey()")


def copy(image: Image, instruction: Instruction, built: Mapping[str, Image]) -> None:
    """Copy files or the content of folders, without what .dockerignore names if they are the repository's."""
    *sources, target = instruction.words
    stage = instruction.flags.get("from")
    patterns = [] if stage else ignored()
    to = inside(image.root, str(Path(image.folder, target)))
    for source in sources:
        file = inside(built[stage].root, source) if stage else ROOT / source
        if file.is_dir():
            ignore = shutil.ignore_patterns(*patterns)
            shutil.copytree(file, to, symlinks=True, ignore=ignore, dirs_exist_ok=True)
        else:
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, to)


def ignored() -> list[str]:
    lines = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    return [line.removeprefix("**/") for line in lines if line and not line.startswith("#")]


def inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def try_image(image: Image, environment: Mapping[str, str], port: int) -> None:
    """Start the image as its user with a read-only root, ask it for an action, and stop it."""
    present = [name for name in NOT_IN_AN_IMAGE if shutil.which(name, path=path_in(image))]
    assert not present, f"the image has {present}"
    make_read_only(image)
    image.environment |= {**environment, "VLA_PORT": str(port), "VLA_API_KEYS": f"proof={KEY}"}
    started = time.monotonic()
    # Process 1 of its own, which sees its own processes only.
    server = subprocess.Popen(
        [
            "unshare",
            "--pid",
            "--fork",
            f"--mount-proc={image.root}/proc",
            *as_user(image, image.entrypoint + image.command),
        ],
        env=image.environment,
    )
    try:
        wait_until_healthy(image, server)
        print(f"healthy after {time.monotonic() - started:.1f} s")
        show_answer(f"http://127.0.0.1:{port}")
        bury_a_worker(server.pid, port)
        print(f"exit code 0, {stop(server):.1f} s after SIGTERM")
    finally:
        server.kill()


def path_in(image: Image) -> str:
    return os.pathsep.join(str(inside(image.root, folder)) for folder in image.environment["PATH"].split(os.pathsep))


def make_read_only(image: Image) -> None:
    root = image.root
    subprocess.run(["mount", "--bind", root, root], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
    subprocess.run(["mount", "--rbind", "/dev", root / "dev"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", root / "tmp"], check=True)
    uid, gid = image.user.split(":")
    for volume in image.volumes:
        options = f"mode=0700,uid={uid},gid={gid}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", inside(root, volume)], check=True)


def as_user(image: Image, command: list[str]) -> list[str]:
    """Return a command that runs in the image as its user, without capabilities and without new privileges."""
    uid, gid = image.user.split(":")
    user = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", "--bounding-set=-all", "--no-new-privs"]
    return ["chroot", str(image.root), *user, *command]


def wait_until_healthy(image: Image, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    check = as_user(image, image.healthcheck)
    while subprocess.run(check, env=image.environment, stderr=subprocess.DEVNULL, check=False).returncode:
        assert server.poll() is None, f"the server ended with exit code {server.returncode}"
        assert time.monotonic() < deadline, f"HEALTHCHECK failed for {READY_S} s"
        time.sleep(1)


def bury_a_worker(server: int, port: int) -> None:
    """Kill a scene worker; another answers, and no process is left that nobody waits for."""
    workers = [pid for pid in below(server) if "scenes.worker" in of_process(pid, "cmdline")]
    assert workers, "no scene worker is running"
    os.kill(workers[0], signal.SIGKILL)
    show_answer(f"http://127.0.0.1:{port}")
    zombies = [pid for pid in below(server) if "\nState:\tZ" in of_process(pid, "status")]
    assert not zombies, f"{len(zombies)} dead processes were left"


def below(pid: int) -> list[int]:
    """Return the processes that a process started, in any of its threads, and those that they started."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for file in files for child in file.read_text().split()]
    return [each for child in children for each in [child, *below(child)]]


def of_process(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def stop(server: subprocess.Popen[bytes]) -> float:
    """Send SIGTERM to process 1 of the image, and return how many seconds it took."""
    (process_1,) = map(int, Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split())
    started = time.monotonic()
    os.kill(process_1, signal.SIGTERM)
    assert server.wait(GRACE_S) == 0, f"exit code {server.returncode} after SIGTERM"
    return time.monotonic() - started


if __name__ == "__main__":
    main()
