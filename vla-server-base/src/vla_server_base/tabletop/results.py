"""Results of an evaluation on disk, as JSON lines: its settings, then each trial; an evaluation can resume."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from vla_server_base.datasets.json_lines import read_rows
from vla_server_base.errors import RequestError
from vla_server_base.tabletop.trial_result import TrialResult

Part = Literal["suite", "grounding"]
ANOTHER_FILE = "give another --out, or remove the file"


class Results:
    """The trials of one evaluation by part, task and seed, stored in the file `path` unless it is None.

    Trials that the file has already are read from it. Two runs with the same `settings` are one evaluation; `run` tells
    people when, where and how it ran.

    Raises:
        RequestError: the file has no evaluation, or one with other settings.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any], run: Mapping[str, Any]):
        self.found: dict[tuple[Part, str, int], TrialResult] = {}
        self.run = run
        self._path = path
        if path is None:
            return
        if path.exists() and path.stat().st_size:
            self._read(path, settings)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write({"settings": settings, "run": run})

    def add(self, part: Part, result: TrialResult) -> None:
        """Add a result, and write it at once."""
        self.found[part, result.task, result.seed] = result
        self._write({"part": part, **asdict(result)})

    def of(self, part: Part) -> list[TrialResult]:
        """Return the results of a part."""
        return [result for (result_part, _, _), result in self.found.items() if result_part == part]

    def _read(self, path: Path, settings: Mapping[str, Any]) -> None:
        try:
            (head, *rows), num_bytes = read_rows(path)
            stored = head["settings"]
            results = [(row.pop("part"), TrialResult(**{**row, "lifted": tuple(row["lifted"])})) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise RequestError(f"{path} has no results of an evaluation ({error})", hint=ANOTHER_FILE) from error
        names = dict.fromkeys((*stored, *settings))
        if different := [name for name in names if stored.get(name) != settings.get(name)]:
            listed = ", ".join(f"{name} {stored.get(name)!r}, now {settings.get(name)!r}" for name in different)
            raise RequestError(f"{path} has results with other settings: {listed}", hint=ANOTHER_FILE)
        self.found = {(part, result.task, result.seed): result for part, result in results}
        os.truncate(path, num_bytes)

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")
