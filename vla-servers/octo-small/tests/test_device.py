"""What JAX runs on, where a plugin fails or a GPU is missing; programs that another machine or version compiled."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from octo_service import device

# As jax-cuda's: found by its name alone, and registered so that its failure is loud.
PLUGIN = """
from jax._src import xla_bridge

def fail():
    raise RuntimeError("no supported devices found for platform CUDA")

def initialize():
    xla_bridge.register_backend_factory("broken", fail, priority=500, fail_quietly=False)
"""
PREPARE = """
import logging, sys, warnings
from pathlib import Path
logging.basicConfig(format="%(levelname)s %(message)s")
warnings.filterwarnings("ignore")
from octo_service import device
from octo_service.errors import DeviceError
try:
    device.prepare(sys.argv[1], Path(sys.argv[2]))
except DeviceError as error:
    sys.exit(f"refused: {error}")
import jax
import jax.numpy as jnp
two = jax.jit(lambda x: x + 1)(jnp.ones(()))
print(jax.default_backend(), float(two), jax.local_devices(backend="cpu")[0].platform)
"""


def _prepare(cache: Path, platform: str = "auto", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PREPARE, platform, str(cache)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def broken_plugin(tmp_path: Path) -> str:
    """Install a plugin that finds no GPU."""
    package = tmp_path / "site" / "jax_plugins" / "broken"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PLUGIN)
    return str(tmp_path / "site")


def test_a_gpu_plugin_that_finds_no_gpu_leaves_the_processor(tmp_path: Path, broken_plugin: str):
    found = _prepare(tmp_path / "cache", PYTHONPATH=broken_plugin)
    assert found.stdout == "cpu 2.0 cpu\n", found.stderr
    assert "WARNING" in found.stderr
    assert "the policy runs on the processor" in found.stderr
    assert "no supported devices found for platform CUDA" in found.stderr


def test_a_processor_that_is_asked_for_needs_no_plugin(tmp_path: Path, broken_plugin: str):
    found = _prepare(tmp_path / "cache", "cpu", PYTHONPATH=broken_plugin, JAX_PLATFORMS="cuda")
    assert found.stdout == "cpu 2.0 cpu\n", found.stderr
    assert "WARNING" not in found.stderr


@pytest.mark.parametrize(
    ("platform", "environment", "way_on"),
    [
        ("gpu", {}, "VLA_DEVICE=cpu"),
        ("gpu", {"PYTHONPATH": "plugin"}, "no supported devices found for platform CUDA"),
        ("auto", {"JAX_PLATFORMS": "cuda"}, "unset JAX_PLATFORMS"),
    ],
    ids=["none", "a plugin that fails", "by JAX's own setting"],
)
def test_a_gpu_that_is_asked_for_and_not_there_is_one_sentence(
    tmp_path: Path, broken_plugin: str, platform: str, environment: dict[str, str], way_on: str
):
    environment = {name: broken_plugin if value == "plugin" else value for name, value in environment.items()}
    found = _prepare(tmp_path / "cache", platform, **environment)
    assert found.returncode == 1
    (line,) = [line for line in found.stderr.splitlines() if line.startswith("refused: ")]
    assert way_on in line
    assert "Traceback" not in found.stderr


def test_programs_are_apart_by_python_jax_and_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = device.programs_folder(tmp_path)
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in here.name
    assert device.jax.__version__ in here.name
    other = tmp_path / "cpuinfo"
    other.write_text("flags : sse2\n")
    monkeypatch.setattr(device, "CPU_INFO", other)
    assert device.programs_folder(tmp_path) != here
    other.write_text("cpu MHz : 2000\nflags : sse2\n")
    again = device.programs_folder(tmp_path)
    other.write_text("cpu MHz : 3000\nflags : sse2\n")
    assert device.programs_folder(tmp_path) == again


@pytest.mark.skipif(not hasattr(device.jax.config, "jax_compilation_cache_dir"), reason="this JAX keeps no programs")
def test_a_damaged_program_is_compiled_anew(tmp_path: Path):
    assert _prepare(tmp_path).returncode == 0
    programs = [path for path in device.programs_folder(tmp_path).rglob("*") if path.is_file()]
    assert programs
    for path in programs:
        path.write_bytes(b"damaged")
    found = _prepare(tmp_path)
    assert found.stdout == "cpu 2.0 cpu\n", found.stderr
