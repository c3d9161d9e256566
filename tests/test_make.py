"""`make` takes a Python that is there, says so where there is none, and takes nothing away from an environment."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERSION = "{}.{}".format(*sys.version_info)
PYTHON = Path(sys.base_prefix, "bin", f"python{VERSION}")
TOOLS = ("bash", "env", "make", "cat", "rm")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder of programs that are on PATH, without a Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def run(path: Path, *command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(path), "HOME": str(path)}
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)


def find_python(path: Path, *versions: str) -> str:
    return run(path, ROOT / ".ci" / "find-python", *versions).stdout.strip()


@pytest.mark.parametrize("name", [f"python{VERSION}", "python3", "python"])
def test_a_supported_python_is_found_by_any_of_its_names(path: Path, name: str):
    (path / name).symlink_to(PYTHON)
    assert Path(find_python(path, "3.99", VERSION)).samefile(PYTHON)
    assert find_python(path, "3.99") == ""


def test_a_name_that_runs_nothing_is_passed_over(path: Path):
    shim = path / f"python{VERSION}"
    shim.write_text(f"#!/bin/sh\necho 'pyenv: python{VERSION}: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    assert find_python(path, VERSION) == ""
    (path / "python3").symlink_to(PYTHON)
    assert Path(find_python(path, VERSION)).samefile(PYTHON)


def test_versions_of_pyenv_are_found_that_its_shims_hide(path: Path, tmp_path: Path):
    pyenv = path / "pyenv"
    pyenv.write_text(f'#!/bin/sh\n[ "$1" = root ] && echo "{tmp_path}"\n')
    pyenv.chmod(0o755)
    python = tmp_path / "versions" / f"{VERSION}.0" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(PYTHON)
    assert Path(find_python(path, VERSION)).samefile(PYTHON)


def test_without_a_supported_python_make_says_so_in_a_sentence(path: Path, tmp_path: Path):
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    shutil.copy(ROOT / "Makefile", tmp_path)
    result = run(path, "make", "demo", cwd=tmp_path)
    assert result.returncode != 0
    assert "No supported Python is on PATH, of pyenv or of uv: install one of 3.10 to 3.14" in result.stderr


@pytest.mark.parametrize("target", ["demo", "serve", "test"])
def test_extras_that_were_installed_by_hand_stay(target: str):
    recipe = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    syncs = [line for line in recipe.splitlines() if " sync " in line]
    assert syncs
    assert [line for line in syncs if "--inexact" not in line] == []
    of_octo = [line for line in syncs if "octo-small" in line]
    assert of_octo
    assert [line for line in of_octo if "--extra zmq --extra lerobot" not in line] == []
    assert all(("--no-dev" in line) == (target != "test") for line in syncs)


@pytest.mark.parametrize("target", ["demo", "serve", "test", "bench", "docs"])
def test_only_targets_of_lerobot_install_pytorch(target: str):
    recipe = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "cd vla-servers/lerobot" not in recipe


@pytest.mark.parametrize("target", ["serve-lerobot", "test-lerobot"])
def test_lerobots_targets_say_which_python_they_need(path: Path, tmp_path: Path, target: str):
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    shutil.copy(ROOT / "Makefile", tmp_path)
    older = path / "python3.11"
    older.write_text(f"#!/bin/sh\necho {older}\n")
    older.chmod(0o755)
    result = run(path, "make", "--dry-run", "setup-lerobot" if target == "test-lerobot" else target, cwd=tmp_path)
    assert result.returncode != 0
    assert "LeRobot needs Python 3.12 or 3.13, and neither is on PATH, of pyenv or of uv" in result.stderr


@pytest.mark.parametrize("script", ["test-oldest", "test-pythons"])
def test_the_tests_that_a_script_runs_exist(script: str):
    text = (ROOT / ".ci" / script).read_text()
    named = re.findall(r"(?<![\w./])((?:\.\./\.\./)?tests/[\w/]+\.py)", text)
    assert named
    for path in named:
        assert any((ROOT / package / path).is_file() for package in ("vla-server-base", "vla-servers/octo-small")), path


@pytest.fixture
def ci(path: Path, tmp_path: Path) -> Path:
    """A copy of `.ci/run` in a folder where `make`, `apt-get` and `id` say what they were called with."""
    (tmp_path / ".ci").mkdir()
    script = Path(shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci"))
    (path / "make").unlink()
    (path / "dirname").symlink_to(str(shutil.which("dirname")))
    write_program(path / "make", 'echo "make $*"')
    write_program(path / "apt-get", 'echo "apt-get $*" >&2')
    write_program(path / "id", "echo 0")
    return script


def write_program(file: Path, line: str) -> None:
    file.write_text(f"#!/bin/sh\n{line}\n")
    file.chmod(0o755)


def test_ci_installs_a_browser_where_none_is_found(path: Path, ci: Path):
    result = run(path, ci)
    assert "apt-get -qq install --yes --no-install-recommends chromium" in result.stderr
    assert result.stdout.splitlines()[-2:] == ["make test", "make test-lerobot"]


@pytest.mark.parametrize("browser", ["chromium", "google-chrome"])
def test_ci_takes_the_browser_that_is_there(path: Path, ci: Path, browser: str):
    write_program(path / browser, "")
    result = run(path, ci)
    assert result.stderr == ""
    assert result.stdout == "make test\nmake test-lerobot\n"


def test_ci_installs_nothing_where_it_is_not_root(path: Path, ci: Path):
    write_program(path / "id", "echo 1000")
    result = run(path, ci)
    assert result.stderr == ""
    assert result.stdout == "make test\nmake test-lerobot\n"
