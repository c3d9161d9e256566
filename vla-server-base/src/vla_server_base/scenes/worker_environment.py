"""The environment variables of a scene worker: few of the server's, because tokens and keys are among those."""

import os
import re
import site


def worker_environment() -> dict[str, str]:
    """Return a worker's whole environment."""
    passed_on = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    # A worker has no HOME, by which Python finds the packages of this user.
    user_base = {"PYTHONUSERBASE": site.getuserbase()} if site.ENABLE_USER_SITE else {}
    return {**ENVIRONMENT, **user_base, **passed_on}


ENVIRONMENT = {
    # On two cores more threads draw no faster, and each reserves memory.
    "LP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    # Memory of large scenes goes back to the system: on the heap a thousand small scenes left holes of 30 MB.
    "MALLOC_MMAP_THRESHOLD_": "4194304",
    "MALLOC_TRIM_THRESHOLD_": "16777216",
    # Shaders would be written to the home folder, which a worker cannot open.
    "MESA_SHADER_CACHE_DISABLE": "true",
}
# What Python, the dynamic loader and graphics drivers read.
PASSED_ON = re.compile(
    r"(CUDA_VISIBLE_DEVICES|DRI_PRIME|GLIBC_TUNABLES|LANG|LC_\w+|LD_LIBRARY_PATH|LD_PRELOAD|MUJOCO_EGL_DEVICE_ID"
    r"|NVIDIA_DRIVER_CAPABILITIES|NVIDIA_VISIBLE_DEVICES|PATH|SYSTEMROOT|TEMP|TMP|TMPDIR"
    r"|PYTHON(DONTWRITEBYTECODE|HOME|NOUSERSITE|PATH|PYCACHEPREFIX|SAFEPATH|USERBASE|UTF8|WARNINGS)"
    r"|(DYLD|EGL|GALLIUM|GLX|LIBGL|LP|MALLOC|MESA|OSMESA|__EGL|__GL|__GLX|__NV)_\w+)"
)
