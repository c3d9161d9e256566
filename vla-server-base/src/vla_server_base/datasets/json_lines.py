"""JSON lines: files that programs append to until they end or are killed."""

import json
from pathlib import Path
from typing import Any


def read_rows(path: Path) -> tuple[list[Any], int]:
    """Return the values of the complete lines, and the number of bytes that they take.

    A last line without a line end was being written when a program was killed, and is ignored.

    Raises:
        OSError: the file does not exist.
        ValueError: a complete line is not JSON.
    """
    content = path.read_bytes()
    num_bytes = content.rfind(b"\n") + 1
    return [json.loads(line) for line in content[:num_bytes].splitlines()], num_bytes
