"""Which line of which file a line was, of a document that was put together from several."""

import re
from bisect import bisect_right
from dataclasses import dataclass, field

_LINE = re.compile(r"\bline (?:= )?(\d+)")


@dataclass
class SourceLines:
    """Where the lines of a document come from; those of its main file as long as nothing else is said."""

    _starts: list[int] = field(default_factory=lambda: [1])
    _sources: list[tuple[str, int]] = field(default_factory=lambda: [("", 1)])

    def begin(self, written_line: int, file: str, line: int) -> None:
        """Say that from this line on the document has a file's lines, beginning with `line`."""
        self._starts.append(written_line)
        self._sources.append((file, line))

    def explain(self, message: str) -> str:
        """Return a message about the document as one about the files that it came from."""
        return _LINE.sub(lambda found: self._source(int(found[1])), message)

    def _source(self, written_line: int) -> str:
        place = max(bisect_right(self._starts, written_line) - 1, 0)
        file, line = self._sources[place]
        return line_of(line + written_line - self._starts[place], file)


def line_of(line: int, file: str) -> str:
    """Say which line is meant; a main file has no name."""
    return f"line {line} of {file[:80]}" if file else f"line {line}"
