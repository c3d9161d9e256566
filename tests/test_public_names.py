"""What the packages export: a sorted list of names, each documented, none loaded before it is used."""

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {
    "vla_client": ROOT / "vla-client" / "src",
    "vla_console": ROOT / "vla-console" / "src",
    "vla_server_base": ROOT / "vla-server-base" / "src",
    "octo_service": ROOT / "vla-servers" / "octo-small" / "src",
    "lerobot_service": ROOT / "vla-servers" / "lerobot" / "src",
}
HEAVY = {"fastapi", "jax", "mujoco", "pydantic", "torch", "uvicorn"}


def exporting() -> list[str]:
    """Return every package whose `__init__` exports names."""
    files = [(source, file) for source in SOURCES.values() for file in source.rglob("__init__.py")]
    return sorted(
        ".".join(file.parent.relative_to(source).parts) for source, file in files if "__all__" in file.read_text()
    )


@pytest.mark.parametrize("package", exporting())
def test_exported_names_are_sorted_documented_and_there(package: str):
    module = importlib.import_module(package)
    names = list(module.__all__)
    assert names == sorted(names, key=lambda name: (not name.isupper(), name))
    assert module.__doc__
    values = {name: getattr(module, name) for name in names}
    assert all(value.__doc__ for value in values.values() if inspect.isclass(value) or inspect.isfunction(value))


@pytest.mark.parametrize("package", SOURCES)
def test_a_package_loads_nothing_heavy_before_a_name_is_used(package: str):
    code = f"import sys, {package}; print(*sys.modules)"
    command, environment = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": str(SOURCES[package])}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert HEAVY.isdisjoint(printed.split())


@pytest.mark.parametrize("package", SOURCES)
def test_a_package_says_that_it_is_typed(package: str):
    assert (SOURCES[package] / package / "py.typed").is_file()
