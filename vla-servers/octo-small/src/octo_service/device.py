"""The device that JAX runs on, what it can do, and where its compiled programs stay."""

import logging
import os
import re
import tempfile
from pathlib import Path

import jax

from octo_service.errors import DeviceError
from vla_server_base.extras import how_to_install

logger = logging.getLogger(__name__)


def prepare(platform: str, cache_dir: Path) -> None:
    """Choose the device ("auto", "cpu", "gpu") and keep compiled programs in `cache_dir` between starts.

    To be called before anything runs on a device. The GPU's memory is taken as it is needed: a scene renderer or
    another policy may want some.

    Raises:
        DeviceError: a GPU is asked for and JAX finds none.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    _keep_programs(cache_dir / "programs")
    if platform == "cpu":
        jax.config.update("jax_platforms", "cpu")
    if platform == "gpu" and jax.default_backend() != "gpu":
        raise DeviceError(
            f"a GPU is asked for, but JAX {jax.__version__} finds only: {jax.default_backend()}; "
            f"{how_to_install('cuda12')} (or cuda13, cuda11), or set VLA_DEVICE=auto"
        )


def _keep_programs(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        logger.warning(
            "%s cannot be written (%s): each start compiles everything anew; set VLA_CACHE_DIR to a folder that can",
            folder,
            error.strerror,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def multiplies_bfloat16(cpu_info: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the device has instructions for it; without such a file a processor is taken to have them."""
    if jax.default_backend() != "cpu" or not cpu_info.exists():
        return True
    flags = set(re.findall(r"\w+", cpu_info.read_text()))
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
