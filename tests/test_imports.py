"""Every module can be imported, with all extras there, and nothing warns."""

import subprocess
import sys

import pytest

IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.", onerror=lambda name: print(name)):
    importlib.import_module(module.name)
"""


@pytest.mark.parametrize("package", ["vla_client", "vla_console", "vla_server_base", "octo_service"])
def test_every_module_can_be_imported(package: str):
    command = [sys.executable, "-W", "error", "-c", IMPORT_ALL, package]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
