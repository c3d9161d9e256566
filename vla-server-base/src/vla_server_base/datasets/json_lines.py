"""JSON lines: files that programs add to until they are killed."""

import json
from pathlib import Path
from typing import Any


def read_rows(path: Path) -> tuple[list[Any], int]:
    """Return what the file's whole lines say, and how many bytes they take.

    A last line without its end was being written when a program was killed: it is none.

    Raises:
        OSError: there is no such file.
        ValueError: a whole line is no JSON.
    """
    content = path.read_bytes()
    num_bytes = content.rfind(b"\n") + 1
    return [json.loads(line) for line in content[:num_bytes].splitlines()], num_bytes
