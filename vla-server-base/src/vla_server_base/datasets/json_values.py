"""JSON files that people edit: values one after another, with blank lines, indentation or a byte order mark."""

import json
import re
from pathlib import Path
from typing import Any

from vla_server_base.errors import DatasetError


def read_json_values(path: Path) -> list[Any]:
    """Read the values of a file, of which each may span several lines.

    Raises:
        DatasetError: a value is damaged; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: expected text in UTF-8 ({error})", hint="copy the dataset again") from error
    decoder, values, position = json.JSONDecoder(), [], _skip_space(text, 0)
    while position < len(text):
        try:
            value, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise DatasetError(
                f"{path}, line {error.lineno}: {error.msg}", hint="fix that line, or copy the dataset again"
            ) from error
        values.append(value)
        position = _skip_space(text, end)
    return values


def _skip_space(text: str, position: int) -> int:
    space = re.compile(r"\s*").match(text, position)
    assert space is not None, "the pattern matches an empty text, too"
    return space.end()
