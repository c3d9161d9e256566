"""What somebody gets who has taken over a scene worker: in every thread of it, on kernels that can less, nothing."""

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from plain_scene import assert_serves, running

from vla_server_base.scenes.worker.landlock import LANDLOCK_CREATE_RULESET_VERSION, SYS_LANDLOCK_CREATE_RULESET
from vla_server_base.scenes.worker.system_calls import ARCHITECTURES
from vla_server_base.scenes.worker_environment import worker_environment

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ARCHITECTURES, reason="seccomp as it is used here"
)
HERE = Path(__file__).parent
NO_LANDLOCK = "444,445,446"
NO_SECCOMP = str(ARCHITECTURES[platform.machine()].seccomp) if platform.machine() in ARCHITECTURES else ""
RENDERERS = ("egl", "osmesa", "raycast")


def on_kernel_without(numbers: str, *program: str) -> list[str]:
    command = [sys.executable, *program]
    return [sys.executable, str(HERE / "old_kernel.py"), numbers, *command] if numbers else command


def take_over(renderer: str, secret: Path, without: str = "") -> tuple[dict, dict[int, dict | None]]:
    """Return how a worker says that it is confined, and what became of each attempt in each of its threads."""
    secret.write_text("a key")
    program = on_kernel_without(without, str(HERE / "taken_over_worker.py"), renderer, str(secret))
    pipe = subprocess.PIPE
    with subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=worker_environment()) as worker:
        assert worker.stdout is not None
        how = json.loads(worker.stdout.readline())
        if "unavailable" in how:
            pytest.skip(how["unavailable"])
        threads = [int(thread) for thread in os.listdir(f"/proc/{worker.pid}/task")]
        output, complaints = worker.communicate(json.dumps(threads) + "\n", timeout=120)
        assert output, complaints
        return how, {int(thread): outcomes for thread, outcomes in json.loads(output).items()}


def assert_all_denied(outcomes: dict | None, *kinds: str) -> None:
    assert outcomes is not None, "this thread could not be got at"
    for kind in kinds:
        assert outcomes[kind]
        assert set(outcomes[kind].values()) == {"denied"}, outcomes[kind]


@pytest.mark.parametrize("without", ["", NO_LANDLOCK], ids=["this kernel", "a kernel without Landlock"])
@pytest.mark.parametrize("renderer", RENDERERS)
def test_whoever_takes_over_a_worker_gets_nothing_in_any_of_its_threads(renderer, without, tmp_path):
    how, threads = take_over(renderer, tmp_path / "secret", without)
    assert how == {"files": True, "network": True, "programs": True, "reason": None}
    # The main one, one that Python started later, and the graphics driver's.
    assert len(threads) >= (4 if renderer == "egl" else 2)
    for outcomes in threads.values():
        assert_all_denied(outcomes, "files", "network", "programs")
    assert (tmp_path / "secret").read_text() == "a key"


@pytest.mark.skipif("landlock_version() < 1")
@pytest.mark.parametrize("renderer", RENDERERS)
def test_without_seccomp_landlock_keeps_the_files_from_every_thread(renderer, tmp_path):
    how, threads = take_over(renderer, tmp_path / "secret", NO_SECCOMP)
    assert (how["files"], how["network"], how["programs"]) == (True, False, False)
    assert "seccomp" in how["reason"]
    for outcomes in threads.values():
        assert_all_denied(outcomes, "files")


def landlock_version() -> int:
    import ctypes

    return ctypes.CDLL(None).syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)


WITH_A_DEVICE = """
import os, socket
from vla_server_base.scenes.worker.landlock import restrict_files
from vla_server_base.scenes.worker.system_calls import forbid_system_calls
assert restrict_files(graphics_devices=True)
assert forbid_system_calls(device=True) is None
os.close(os.open(os.__file__, os.O_RDONLY))
os.close(os.open("/dev/null", os.O_RDWR))
for path in ("/etc/passwd", "/proc/self/environ", "/dev/mem", "/dev/kmsg", "/dev/shm", "/tmp", os.path.expanduser("~")):
    try:
        os.open(path, os.O_RDONLY)
        print(path)
    except PermissionError:
        pass
    except FileNotFoundError:
        pass
try:
    socket.socket()
    print("socket")
except PermissionError:
    pass
"""


@pytest.mark.skipif("landlock_version() < 1")
def test_a_driver_with_a_device_may_go_on_opening_libraries_and_devices_alone():
    assert output_of(WITH_A_DEVICE) == ""


# mmap of a page that may be executed, with `mov eax, 20; int 0x80; ret`: i386's getpid.
ANOTHER_ARCHITECTURE = """
import ctypes, mmap
from vla_server_base.scenes.worker.system_calls import forbid_system_calls
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("b814000000cd80c3"))
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
assert forbid_system_calls(device=False) is None
call()
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="i386 is x86_64's")
def test_a_system_call_of_another_architecture_ends_the_process():
    program = [sys.executable, "-c", ANOTHER_ARCHITECTURE]
    # SIGSEGV where the kernel knows no i386.
    assert subprocess.run(program, check=False).returncode in (-signal.SIGSYS, -signal.SIGSEGV)


POOL = """
import asyncio, logging, os, sys
sys.path.insert(0, sys.argv[1])
from plain_scene import assert_serves, running
logging.basicConfig(level=logging.WARNING, format="log: %(message)s", stream=sys.stdout)
async def main():
    async with running(renderer="raycast", scene_confinement=sys.argv[2], scene_workers=2) as pool:
        await assert_serves(pool)
        print(pool.confinement)
asyncio.run(main())
"""


def output_of(program: str, *arguments: str, without: str = "") -> str:
    command = on_kernel_without(without, "-c", program, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout


@pytest.mark.parametrize(
    ("without", "files"), [(NO_SECCOMP, "True"), (f"{NO_SECCOMP},{NO_LANDLOCK}", "False")], ids=["seccomp", "both"]
)
def test_where_the_kernel_cannot_the_log_says_so_once_and_scenes_are_drawn(without, files):
    output = output_of(POOL, str(HERE), "best_effort", without=without)
    assert output.count("log: scene workers are not confined") == 1
    assert f"Confinement(files={files}, network=False, programs=False" in output


def test_required_confinement_that_cannot_be_had_refuses_scenes_with_a_sentence():
    program = POOL.replace("asyncio.run(main())", "try: asyncio.run(main())\nexcept Exception as error: print(error)")
    output = output_of(program, str(HERE), "required", without=NO_SECCOMP)
    assert "not fully confined here (the kernel refuses seccomp: Function not implemented)" in output
    assert "VLA_SCENE_CONFINEMENT=required" in output
    assert "Confinement(" not in output


@pytest.mark.anyio
async def test_required_confinement_serves_scenes_here():
    async with running(renderer="raycast", scene_confinement="required", scene_workers=1) as pool:
        assert pool.confinement.reason is None
        await assert_serves(pool)


@pytest.mark.anyio
async def test_a_worker_gets_an_environment_of_its_own(monkeypatch):
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "VLA_CACHE_DIR", "NVIDIA_API_KEY", "DATABASE_URL"):
        monkeypatch.setenv(name, "a secret")
    monkeypatch.setenv("LIBGL_ALWAYS_SOFTWARE", "1")
    async with running(renderer="raycast", scene_workers=1) as pool:
        for pid in pool.pids:
            environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
            assert not any(variable.endswith("a secret") or variable.startswith("HOME=") for variable in environment)
            assert "LIBGL_ALWAYS_SOFTWARE=1" in environment
