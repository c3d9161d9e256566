"""The operator's page is true: its commands run in their order, in an empty folder, and each line succeeds."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "operations.md"
BLOCKS = re.findall(r"^<!-- run -->\n```bash\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
# A server that an unexpected end of the script leaves is ended with it.
SCRIPT = "set -euo pipefail; trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
MINUTES = 5


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def test_a_new_operator_gets_a_keyed_monitored_recorded_server_by_the_page_alone(tmp_path: Path, port: int):
    script = SCRIPT + "\n".join(BLOCKS).replace("8002", str(port)).replace("VLA_HOST=0.0.0.0", "VLA_HOST=127.0.0.1")
    environment = {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "HOME": str(tmp_path)}
    command = ["bash", "-x", "-c", script]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60 * MINUTES
    )
    assert result.returncode == 0, result.stdout + result.stderr[-4000:]
    assert "turns        3, of which 3 are the same" in result.stdout


def test_every_command_of_the_page_is_run_or_is_a_comment():
    every = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    others = [line for block in every if block not in BLOCKS for line in block.splitlines()]
    assert len(BLOCKS) > 5
    assert [line for line in others if not line.startswith("#")] == []
