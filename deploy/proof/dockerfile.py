"""Reads a Dockerfile as the list of its instructions, for the tests and for `image.py`."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction: `COPY --from=build /a /b` has the flag `from` and the text `/a /b`."""

    name: str
    flags: Mapping[str, str]
    text: str

    @property
    def is_exec_form(self) -> bool:
        return self.text.startswith("[")

    @property
    def words(self) -> list[str]:
        """The words of the text: those of the exec form, or those that a shell would read."""
        return json.loads(self.text) if self.is_exec_form else shlex.split(self.text)


def read(file: Path) -> list[Instruction]:
    """Return the instructions in their order, those of all stages."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    return [_parse(line) for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


def _parse(line: str) -> Instruction:
    name, _, text = line.strip().partition(" ")
    flags: dict[str, str] = {}
    while match := re.match(r"--([\w-]+)=(\S+)\s+", text.lstrip()):
        flags[match[1]] = match[2]
        text = text.lstrip()[match.end() :]
    return Instruction(name=name, flags=flags, text=text.strip())


def stages(instructions: list[Instruction]) -> list[list[Instruction]]:
    """Return the instructions of each stage, beginning with its FROM; ARGs before the first one are left out."""
    found: list[list[Instruction]] = []
    for instruction in instructions:
        if instruction.name == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def substitute(text: str, values: Mapping[str, str]) -> str:
    """Put values in the place of `$NAME` and `${NAME}`; what has none is empty, as in Docker."""
    return _VARIABLE.sub(lambda match: values.get(match[1] or match[2], ""), text)
