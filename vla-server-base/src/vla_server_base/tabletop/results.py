"""Results on disk, as JSON lines: how a policy was evaluated, then each trial as it ended; to be gone on with."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from vla_server_base.datasets.json_lines import read_rows
from vla_server_base.errors import RequestError
from vla_server_base.tabletop.evaluation import TrialResult

Part = Literal["suite", "listening"]


class Results:
    """The trials of one evaluation by part, task and seed; in a file where there is a `path`.

    What is in the file already counts as found. `settings` is what two runs must have in common to be one
    evaluation; `run` says when, where and how, and is for people.

    Raises:
        RequestError: the file is no evaluation, or is one with other settings.
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
        """Take a result in, and write it down at once."""
        self.found[part, result.task, result.seed] = result
        self._write({"part": part, **asdict(result)})

    def of(self, part: Part) -> list[TrialResult]:
        """Return one part's results."""
        return [result for (of_part, _, _), result in self.found.items() if of_part == part]

    def _read(self, path: Path, settings: Mapping[str, Any]) -> None:
        try:
            (head, *rows), num_bytes = read_rows(path)
            there = head["settings"]
            results = [(row.pop("part"), TrialResult(**{**row, "lifted": tuple(row["lifted"])})) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            hint = "give another --out, or remove it"
            raise RequestError(f"{path} holds no results of an evaluation ({error})", hint=hint) from error
        names = dict.fromkeys((*there, *settings))
        if others := [name for name in names if there.get(name) != settings.get(name)]:
            listed = ", ".join(f"{name} {there.get(name)!r}, now {settings.get(name)!r}" for name in others)
            raise RequestError(f"{path} was made otherwise: {listed}", hint="give another --out, or remove it")
        self.found = {(part, result.task, result.seed): result for part, result in results}
        os.truncate(path, num_bytes)

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")
