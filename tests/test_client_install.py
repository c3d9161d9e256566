"""What a robot's computer installs: the wheel of vla-client in an empty environment, its size, and its quick start."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vla_server_base.config import ServerConfig
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter

ROOT = Path(__file__).parents[1]
# uv tells the programs that it runs where it is; make puts it into .uv/.
UV = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
PYTHONS = ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]
MAX_MB = 5
"""Of everything but numpy, which alone has 45 to 70 MB, most of it OpenBLAS."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([UV, "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT / "vla-client")], check=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(params=PYTHONS)
def python(request, tmp_path: Path) -> Path:
    """The interpreter of an empty environment."""
    found = subprocess.run([ROOT / ".ci" / "find-python", request.param], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"Python {request.param} is not on this machine")
    environment = tmp_path / "environment"
    subprocess.run([UV, "venv", "--quiet", "--python", found.stdout.strip(), environment], check=True)
    return environment / "bin" / "python"


@pytest.fixture(scope="module")
def url():
    with serving(create_vla_app(EchoAdapter(), ServerConfig(scene_workers=1), model_id="echo")) as base_url:
        yield base_url.replace("http", "ws", 1)


def megabytes(folder: Path) -> dict[str, float]:
    """The size of each package in a folder of packages, with the libraries beside it."""
    sizes: dict[str, float] = {}
    for file in folder.rglob("*"):
        if file.is_file():
            package = re.split(r"[-.]", file.relative_to(folder).parts[0])[0]
            sizes[package] = sizes.get(package, 0) + file.stat().st_size / 1e6
    return sizes


def test_the_wheel_installs_little_and_its_quick_start_runs(wheel: Path, python: Path, url: str, tmp_path: Path):
    install = [UV, "pip", "install", "--quiet", "--no-compile", "--python", str(python), str(wheel)]
    subprocess.run(install, check=True)
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    distributions = {folder.name.partition("-")[0] for folder in packages.glob("*.dist-info")}
    assert distributions == {"vla_client", "numpy", "msgspec", "websockets"}
    sizes = megabytes(packages)
    assert sum(size for package, size in sizes.items() if package != "numpy") < MAX_MB, sizes

    page = (ROOT / "vla-client" / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    script = tmp_path / "quick_start.py"
    script.write_text(example.replace("ws://127.0.0.1:8002", url))
    result = subprocess.run([python, script], capture_output=True, text=True, check=False)
    assert result.stdout.splitlines()[-1:] == ["(7,)"], result.stderr
