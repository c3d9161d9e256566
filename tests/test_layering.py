"""Imports point one way. Ruff holds the arrows in every run; this shows that its rules bite."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("vla-server-base/src/vla_server_base/engine/engine.py", "import jax"),
        ("vla-server-base/src/vla_server_base/engine/engine.py", "import octo_service.adapter"),
        ("vla-server-base/src/vla_server_base/engine/engine.py", "import mujoco"),
        ("vla-server-base/src/vla_server_base/scenes/pool.py", "import mujoco"),
        ("vla-server-base/src/vla_server_base/scenes/pool.py", "from vla_server_base.scenes.worker import screening"),
        ("vla-server-base/src/vla_server_base/scenes/pool.py", "import vla_server_base.scenes.worker.main"),
        ("vla-servers/octo-small/src/octo_service/model/octo.py", "import fastapi"),
        ("vla-servers/octo-small/src/octo_service/model/octo.py", "from vla_server_base import contract"),
    ],
)
def test_an_import_against_the_arrows_is_refused(file: str, line: str):
    code = f"{line}\n"
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--stdin-filename", file, "-"]
    result = subprocess.run(command, input=code, capture_output=True, text=True, cwd=ROOT, check=False)
    assert "TID251" in result.stdout, result.stdout + result.stderr


def test_the_base_runs_without_jax_and_without_mujoco_in_the_server_process():
    code = (
        "import sys, vla_server_base.server.app\n"
        "assert not {'jax', 'octo_service', 'mujoco'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
