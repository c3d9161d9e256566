"""Imports point one way. Ruff and import-linter hold the arrows; this shows that their rules bite."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [*ROOT.glob("vla-*/src/vla_*"), *ROOT.glob("vla-servers/*/src/*_service")]
BASE = "vla-server-base/src/vla_server_base"
ROOMS_BELOW_THE_DOOR = ("engine", "sessions", "episodes", "scenes")
IMPORTS_OF_THE_DOOR = (
    "import fastapi",
    "import pydantic",
    "from pydantic import Field",
    "from vla_server_base.schemas.base import Body",
    "from vla_server_base.server.app import create_vla_app",
)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("vla-client/src/vla_client/policy.py", "from vla_server_base.errors import VLAError"),
        ("vla-client/src/vla_client/policy.py", "import octo_service.adapter"),
        ("vla-client/src/vla_client/policy.py", "import vla_console"),
        ("vla-console/src/vla_console/proxy.py", "import vla_server_base"),
        ("vla-server-base/src/vla_server_base/engine/engine.py", "import jax"),
        ("vla-server-base/src/vla_server_base/engine/engine.py", "import octo_service.adapter"),
        ("vla-server-base/src/vla_server_base/engine/engine.py", "import mujoco"),
        ("vla-server-base/src/vla_server_base/scenes/pool.py", "import mujoco"),
        ("vla-server-base/src/vla_server_base/commands/serve.py", "import ray"),
        ("vla-server-base/src/vla_server_base/fleet/ray_engine.py", "import jax"),
        ("vla-servers/octo-small/src/octo_service/adapter.py", "from ray import serve"),
        *((f"{BASE}/{room}/a_module.py", line) for room in ROOMS_BELOW_THE_DOOR for line in IMPORTS_OF_THE_DOOR),
        *((f"{BASE}/{room}/a_module.py", "import jax") for room in ROOMS_BELOW_THE_DOOR),
        ("vla-server-base/src/vla_server_base/scenes/pool.py", "from vla_server_base.scenes.worker import screening"),
        ("vla-server-base/src/vla_server_base/scenes/pool.py", "import vla_server_base.scenes.worker.main"),
        ("vla-server-base/src/vla_server_base/engine/engine.py", "import torch"),
        ("vla-server-base/src/vla_server_base/commands/serve.py", "import lerobot_service.adapter"),
        ("vla-server-base/src/vla_server_base/commands/serve.py", "import octo_service.adapter"),
        ("vla-servers/octo-small/src/octo_service/adapter.py", "import lerobot_service.config"),
        ("vla-servers/octo-small/src/octo_service/model/octo.py", "import torch"),
        ("vla-servers/lerobot/src/lerobot_service/adapter.py", "import octo_service.config"),
        ("vla-servers/lerobot/src/lerobot_service/adapter.py", "import jax"),
        ("vla-servers/octo-small/src/octo_service/model/octo.py", "import fastapi"),
        ("vla-servers/octo-small/src/octo_service/model/octo.py", "from vla_server_base import contract"),
    ],
)
def test_an_import_against_the_arrows_is_refused(file: str, line: str):
    assert "TID251" in ruff_on(file, line)


def ruff_on(file: str, line: str) -> str:
    """What ruff says of a file with this one line."""
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--stdin-filename", file, "-"]
    result = subprocess.run(command, input=f"{line}\n", capture_output=True, text=True, cwd=ROOT, check=False)
    return result.stdout + result.stderr


def test_the_worker_alone_may_import_mujoco():
    assert "TID251" not in ruff_on(f"{BASE}/scenes/worker/a_module.py", "import mujoco")
    assert "TID251" in ruff_on(f"{BASE}/scenes/worker_process.py", "import mujoco")


def test_the_fleet_alone_may_import_ray():
    assert "TID251" not in ruff_on(f"{BASE}/fleet/a_module.py", "import ray")
    assert "TID251" in ruff_on(f"{BASE}/engine/a_module.py", "import ray")


def test_the_core_rooms_run_without_fastapi_and_pydantic_of_their_own():
    modules = ", ".join(
        f"vla_server_base.{room}" for room in ("contract", "request_context", "fairness", "request_inputs")
    )
    code = f"import sys, {modules}\nassert not {{'fastapi', 'pydantic'}} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_base_runs_without_jax_and_without_mujoco_in_the_server_process():
    code = (
        "import sys, vla_server_base.server.app\n"
        "assert not {'jax', 'octo_service', 'mujoco', 'torch', 'ray'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all packages' modules, to break."""
    copy = tmp_path_factory.mktemp("sources")
    for source in SOURCES:
        shutil.copytree(
            source, copy / source.name, ignore=lambda _, names: {name for name in names if "bundled" in name}
        )
    return copy


def lint_imports(sources: Path) -> str:
    """What import-linter says of these sources."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", str(ROOT / ".importlinter")]
    environment = {**os.environ, "PYTHONPATH": str(sources), "COLUMNS": "200"}
    result = subprocess.run(command, capture_output=True, text=True, cwd=sources, env=environment, check=False)
    return result.stdout + result.stderr


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("vla_server_base/engine/engine.py", "import vla_server_base.protocols.openpi", "The base"),
        ("vla_server_base/errors.py", "import vla_server_base.contract", "The base"),
        ("vla_server_base/schemas/base.py", "import vla_server_base.server.routes", "The base"),
        ("vla_server_base/protocols/openpi.py", "import pydantic", "HTTP"),
        ("vla_server_base/server/app.py", "import vla_server_base.commands.serve", "The base"),
        ("octo_service/adapter.py", "import lerobot_service.config", "Packages"),
        ("lerobot_service/adapter.py", "import octo_service.config", "Packages"),
        ("lerobot_service/adapter.py", "import jax", "JAX"),
        ("octo_service/adapter.py", "import torch", "PyTorch"),
        ("lerobot_service/config.py", "import lerobot_service.adapter", "LeRobot"),
        ("vla_client/policy.py", "import vla_server_base.errors", "Packages"),
        ("vla_client/policy.py", "import vla_console", "Packages"),
        ("vla_console/__init__.py", "import vla_client", "Packages"),
        ("octo_service/model/octo.py", "import octo_service.adapter", "Octo"),
    ],
)
def test_a_floor_that_imports_from_above_is_refused(sources: Path, file: str, line: str, broken: str):
    module = sources / file
    before = module.read_text()
    module.write_text(f"{before}\n{line}\n")
    try:
        report = lint_imports(sources)
    finally:
        module.write_text(before)
    assert re.search(rf"^{broken}.* BROKEN", report, re.MULTILINE), report


def test_the_floors_hold(sources: Path):
    assert "0 broken" in lint_imports(sources)
