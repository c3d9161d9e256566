"""Parameters that orbax stored one by one: in an OCDBT database, or as one zarr folder each.

Read with tensorstore (extra `ocdbt`). Each parameter is a zarr array whose name is its path joined by dots.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from octo_service.errors import CheckpointError
from vla_server_base.extras import how_to_install

# The file that describes an array, by the version of zarr it was written in.
ZARR_DRIVERS = {".zarray": "zarr", "zarr.json": "zarr3"}


def read_stored_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Read every array stored in one step's folder, by name ("octo_transformer.obs_primary_projection.bias").

    Raises:
        CheckpointError: tensorstore is not installed, or the folder cannot be read with it.
    """
    try:
        # 40 MB that only this form of checkpoint needs; of its versions only some say what types they have.
        tensorstore: Any = importlib.import_module("tensorstore")
    except ImportError as error:
        raise CheckpointError(
            f"{folder} holds parameters in OCDBT form, which needs tensorstore",
            hint=f"{how_to_install('ocdbt')}; or convert the checkpoint once where it is installed",
        ) from error
    try:
        store = _store_of(folder)
        keys = tensorstore.KvStore.open(store).result().list().result()
        futures = {}
        for key in keys:
            name, _, description = key.decode().rpartition("/")
            if driver := ZARR_DRIVERS.get(description):
                spec = {"driver": driver, "kvstore": {**store, "path": f"{store.get('path', '')}{name}/"}}
                futures[name] = tensorstore.open(spec, open=True, read=True)
        return {name: future.result().read().result() for name, future in futures.items()}
    except (ValueError, OSError, UnicodeDecodeError, KeyError) as error:
        raise CheckpointError(
            f"{folder} is damaged or not a checkpoint in OCDBT form ({str(error)[:200]})",
            hint="copy or download it again",
        ) from error


def _store_of(folder: Path) -> dict[str, Any]:
    files = {"driver": "file", "path": f"{folder.absolute()}/"}
    return {"driver": "ocdbt", "base": files} if (folder / "manifest.ocdbt").is_file() else files
