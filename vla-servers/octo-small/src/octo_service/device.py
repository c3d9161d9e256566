"""The device that JAX runs on, what it can do, and where its compiled programs stay."""

import hashlib
import importlib.metadata
import logging
import os
import platform as machine_platform
import re
import sys
from pathlib import Path

import jax

from octo_service.errors import DeviceError
from vla_server_base.extras import how_to_install

CPU_INFO = Path("/proc/cpuinfo")

logger = logging.getLogger(__name__)


def prepare(platform: str, cache_dir: Path) -> None:
    """Choose the device ("auto", "cpu", "gpu") and keep compiled programs in `cache_dir` between starts.

    Call it before anything runs on a device; `cache_dir` must be writable. GPU memory is allocated as it is needed,
    since a scene renderer or another policy may want some.

    Raises:
        DeviceError: a GPU was requested and JAX finds none.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    _keep_programs(programs_folder(cache_dir))
    if platform == "cpu":
        jax.config.update("jax_platforms", "cpu")
    chosen = jax.config.jax_platforms or "cpu"  # pyright: ignore[reportAttributeAccessIssue]
    is_needed = platform == "gpu" or "cpu" not in chosen.split(",")
    if "cpu" not in chosen.split(","):
        jax.config.update("jax_platforms", f"{chosen},cpu")  # noise is drawn on the processor
    backend, failed = _default_backend()
    if is_needed and (failed or backend == "cpu" or (platform == "gpu" and backend != "gpu")):
        raise DeviceError(
            f"VLA_DEVICE=gpu, but JAX {jax.__version__} {failed or f'finds only: {backend}'}", hint=_without_gpu()
        )
    if failed:
        jax.config.update("jax_platforms", "cpu")
        _default_backend()
        logger.warning("JAX %s %s: the policy runs on the processor", jax.__version__, failed)


def _default_backend() -> tuple[str, str]:
    """Return the platform that JAX runs on, or why it fails: no GPU, or no matching driver."""
    try:
        return jax.default_backend(), ""
    except RuntimeError as error:
        # JAX adds advice on packages in parentheses.
        return "", f"fails: {re.split(' [(](?:you may|set JAX)', str(error).splitlines()[0])[0]}"


def _without_gpu() -> str:
    if os.environ.get("JAX_PLATFORMS"):
        return "unset JAX_PLATFORMS, or set VLA_DEVICE=cpu"
    return f"{how_to_install('cuda12')} (or cuda13, cuda11), or set VLA_DEVICE=cpu"


def programs_folder(cache_dir: Path) -> Path:
    """Return the folder of programs that this Python, JAX and processor compiled; others may not run here."""
    jaxlib = importlib.metadata.version("jaxlib")
    python = f"{sys.implementation.name}{sys.version_info.major}.{sys.version_info.minor}"
    return cache_dir / "programs" / f"{python}-jax{jax.__version__}-jaxlib{jaxlib}-{_processor()}"


def _processor() -> str:
    """Name the processor by its instructions, as far as the system lists them."""
    flags = " ".join(sorted(_flags(CPU_INFO)))
    return f"{machine_platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:8]}"


def _keep_programs(folder: Path) -> None:
    if not hasattr(jax.config, "jax_compilation_cache_dir"):
        logger.info("JAX %s keeps no compiled programs: each start compiles everything again", jax.__version__)
        return
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def multiplies_bfloat16(cpu_info: Path = CPU_INFO) -> bool:
    """Return whether the device has bfloat16 instructions; assume so if there is no `cpu_info` file."""
    if jax.default_backend() != "cpu" or not cpu_info.exists():
        return True
    return bool(_flags(cpu_info) & {"avx512_bf16", "amx_bf16", "bf16"})


def _flags(cpu_info: Path) -> set[str]:
    """Return the instructions of the processor's first core; empty if the system does not list them."""
    if not cpu_info.exists():
        return set()
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", cpu_info.read_text(), re.MULTILINE)
    return set(match[1].split()) if match else set()
