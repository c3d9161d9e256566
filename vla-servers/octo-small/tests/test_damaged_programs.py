"""Compiled programs that are damaged, and a disk that takes none: they are compiled again, to the same answer."""

import subprocess
import sys
from pathlib import Path

ANSWER = """
import hashlib, resource, sys
from pathlib import Path
from octo_service.adapter import OctoSmallAdapter
if sys.argv[2] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
adapter = OctoSmallAdapter()
adapter.load_model("bundled://tabletop", "cpu", Path(sys.argv[1]))
chunks = adapter.predict([next(iter(adapter.warm_up_inputs()))])[0]
print(hashlib.sha256(chunks.tobytes()).hexdigest())
"""


def answer(cache: Path, disk: str = "free") -> str:
    """A hash of the chunk that a new process computes."""
    command = [sys.executable, "-c", ANSWER, str(cache), disk]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout


def test_damaged_programs_are_compiled_again_and_a_full_disk_costs_only_time(tmp_path: Path):
    whole = answer(tmp_path / "cache")
    files = sorted(file for file in (tmp_path / "cache").rglob("*-cache") if file.is_file())
    assert len(files) > 4
    for number, file in enumerate(files):
        content = file.read_bytes()
        file.write_bytes((b"", content[: len(content) // 2], bytes(len(content)), b"rubbish")[number % 4])
    assert answer(tmp_path / "cache") == whole
    assert answer(tmp_path / "other", "full") == whole
