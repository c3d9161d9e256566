"""Every module can be imported, and nothing of ours warns. Those of the fleet need the extra ray."""

import subprocess
import sys

import pytest

IMPORT_ALL = """
import importlib, importlib.util, pkgutil, sys
needs_ray = () if importlib.util.find_spec("ray") else ("vla_server_base.fleet.",)
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.", onerror=lambda name: print(name)):
    if not module.name.startswith(needs_ray):
        importlib.import_module(module.name)
"""
OF_RAY = "ignore:Using extra keyword arguments on `Field`:DeprecationWarning"


@pytest.mark.parametrize("package", ["vla_client", "vla_console", "vla_server_base", "octo_service"])
def test_every_module_can_be_imported(package: str):
    command = [sys.executable, "-W", "error", "-W", OF_RAY, "-c", IMPORT_ALL, package]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
