"""What `vla_client` exports, and what importing it loads."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import vla_client

PROJECT = Path(__file__).parents[1]


def test_the_public_names_are_sorted_and_described():
    assert vla_client.__all__ == sorted(vla_client.__all__)
    assert all(inspect.getdoc(getattr(vla_client, name)) for name in vla_client.__all__)
    assert vla_client.__doc__.count("\n") == 0


def test_the_public_names_are_all_that_is_imported():
    public = {
        name for name in dir(vla_client) if not name.startswith("_") and not inspect.ismodule(getattr(vla_client, name))
    }
    assert public == set(vla_client.__all__)


def test_the_readme_explains_every_error():
    page = (PROJECT / "README.md").read_text()
    errors = {name for name in vla_client.__all__ if issubclass(getattr(vla_client, name), Exception)}
    assert {*re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)} == errors - {"VLAError"}


def test_importing_the_client_loads_its_three_dependencies_only():
    # What Python itself had loaded does not count: Debian's has a module `sitecustomize`.
    code = (
        "import json, sys; before = {*sys.modules}\n"
        "from vla_client import *; print(json.dumps([*{*sys.modules} - before]))\n"
        "print(json.dumps([*sys.builtin_module_names, *getattr(sys, 'stdlib_module_names', [])]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, standard = (set(json.loads(line)) for line in done.stdout.splitlines())
    # Before Python 3.10 nothing lists the standard library, so only the server is looked for.
    packages = {name.partition(".")[0] for name in loaded}
    assert packages.isdisjoint({"vla_server_base", "fastapi", "pydantic", "httpx", "PIL", "gymnasium"})
    if sys.version_info >= (3, 10):
        # msgspec uses typing_extensions if it is installed.
        expected = {"vla_client", "numpy", "msgspec", "websockets", "typing_extensions"}
        assert {name for name in packages - expected - standard if not name.startswith("_")} == set()


def test_the_errors_load_without_the_dependencies():
    code = "import sys; from vla_client.errors import VLAError; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"numpy", "msgspec", "websockets"}.isdisjoint(loaded)
