"""Maps the lines of a document that was merged from several files to the lines of those."""

import re
from bisect import bisect_right
from dataclasses import dataclass, field

_LINE = re.compile(r"\bline (?:= )?(\d+)")


@dataclass
class SourceLines:
    """Where the lines of a document come from: its main file, unless `begin` says otherwise."""

    _starts: list[int] = field(default_factory=lambda: [1])
    _sources: list[tuple[str, int]] = field(default_factory=lambda: [("", 1)])

    def begin(self, written_line: int, file: str, line: int) -> None:
        """From this line on the document has the lines of a file, beginning with `line`."""
        self._starts.append(written_line)
        self._sources.append((file, line))

    def explain(self, message: str) -> str:
        """Return a message about the document as one about the files that it came from."""
        return _LINE.sub(lambda match: self._source(int(match[1])), message)

    def _source(self, written_line: int) -> str:
        place = max(bisect_right(self._starts, written_line) - 1, 0)
        file, line = self._sources[place]
        return line_of(line + written_line - self._starts[place], file)


def line_of(line: int, file: str) -> str:
    """Return the text for a line; a main file has no name."""
    return f"line {line} of {file[:80]}" if file else f"line {line}"
