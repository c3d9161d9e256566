"""The console's page is built from pinned libraries, by the Node that is there or by that of the package index."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONSOLE = ROOT / "vla-console"
UV = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
SOURCES = subprocess.run(["git", "ls-files"], cwd=CONSOLE, capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the console's sources, as in a fresh clone."""
    for name in SOURCES:
        (tmp_path / "console" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CONSOLE / name, tmp_path / "console" / name)
    return tmp_path / "console"


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [UV, "build", "--wheel", "--python", sys.executable, "--out-dir", str(folder / "dist"), str(folder)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_the_lock_names_no_address():
    lock = (CONSOLE / "package-lock.json").read_text()
    packages = json.loads(lock)["packages"].values()
    assert len(packages) > 5
    assert [package for package in packages if "resolved" in package] == []
    assert "://" not in lock, "npm install adds `funding` with addresses: delete these lines"
    assert "omit-lockfile-registry-resolved=true" in (CONSOLE / ".npmrc").read_text().split()


def test_each_library_has_one_version_and_a_hash():
    locked = json.loads((CONSOLE / "package-lock.json").read_text())["packages"]
    assert [name for name, package in locked.items() if name and "integrity" not in package] == []
    named = json.loads((CONSOLE / "package.json").read_text())
    versions = {**named["dependencies"], **named["devDependencies"]}
    assert {name: locked[f"node_modules/{name}"]["version"] for name in versions} == versions


def test_without_node_on_path_the_build_takes_it_from_the_package_index(copy: Path, tmp_path: Path):
    (tmp_path / "bin").mkdir()
    result = build(copy, PATH=str(tmp_path / "bin"))
    assert result.returncode == 0, result.stderr
    assert len(list(copy.glob("dist/*.whl"))) == 1
    assert "preact" in (copy / "src/vla_console/static/licences.txt").read_text()


def test_an_npm_that_reaches_nothing_is_reported_in_one_sentence(copy: Path, tmp_path: Path):
    nowhere = {"npm_config_registry": "http://127.0.0.1:9", "npm_config_fetch_retries": "0"}
    result = build(copy, **nowhere, npm_config_cache=str(tmp_path / "cache"))
    assert result.returncode != 0
    (sentence,) = (line for line in result.stderr.splitlines() if line.lstrip().startswith("vla-console: "))
    assert "npm did not install the libraries of the page (ECONNREFUSED); check the network" in sentence
    assert "npm error" not in result.stderr


def test_an_error_in_the_page_is_shown(copy: Path):
    (copy / "page" / "main.tsx").write_text("const = 1;")
    result = build(copy)
    assert result.returncode != 0
    assert "vla-console: the page was not built" in result.stderr
    assert "page/main.tsx:1:6" in result.stderr
