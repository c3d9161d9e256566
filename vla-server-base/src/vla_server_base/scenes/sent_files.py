"""The files that were sent with a scene, found by its paths for them. Paths are only names: none is opened."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vla_server_base.errors import SceneError

_HARMLESS = re.compile(r"[A-Za-z0-9_+() -][A-Za-z0-9_.+() -]*")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}$")
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass
class SentFiles:
    """The files of one request, by the names under which they were sent."""

    names: Iterable[str]
    # The names by which MuJoCo gets the files.
    _flat: dict[tuple[str, str], str] = field(default_factory=dict)
    _by_path: dict[str, str] = field(default_factory=dict)
    _by_base: dict[str, list[str]] = field(default_factory=dict)
    # The paths that found a file whose name is shorter than they are.
    _shortened: dict[str, str] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)

    def __post_init__(self):
        for name in self.names:
            path = normal(name)
            self._by_path.setdefault(path, name)
            self._by_base.setdefault(base_name(path), []).append(path)

    def find(self, path: str, folders: Sequence[str]) -> str | None:
        """Return the name of the file that a path means, or None if it was not sent.

        The search is in these folders, then anywhere by the longest ending that the path shares with a file's name.

        Raises:
            SceneError: it could be any of several.
        """
        places = [joined(folder, path) for folder in folders]
        sent = next((place for place in places if place in self._by_path), None)
        return self._by_path.get(sent or self._by_ending(normal(path), places))

    def flat_name(self, name: str, ending: str = "") -> str:
        """Return the name by which MuJoCo gets a file: without folders and special characters."""
        if (name, ending) not in self._flat:
            base = base_name(name)
            suffix = _SUFFIX.search(base)
            harmless = base if _HARMLESS.fullmatch(base) else f"file{suffix[0] if suffix else ''}"
            self._flat[name, ending] = self._free(harmless + ending)
        return self._flat[name, ending]

    def _by_ending(self, path: str, places: Sequence[str]) -> str:
        wanted = _length(path)
        shared = {
            sent: max(_shared_ending(sent, place) for place in places)
            for sent in self._by_base.get(base_name(path), ())
        }
        fitting = {sent: length for sent, length in shared.items() if length >= min(wanted, _length(sent)) > 0}
        longest = [sent for sent, length in fitting.items() if length == max(fitting.values())]
        if path in longest:
            longest = [path]
        if len(longest) > 1:
            raise SceneError(
                f"'{path[:200]}', which could be any of {', '.join(sorted(longest)[:20])[:500]}",
                hint="name it by more of its path, or set meshdir and texturedir in <compiler>",
            )
        if longest and _length(longest[0]) < wanted:
            self._claim(longest[0], path)
        return longest[0] if longest else ""

    def _claim(self, sent: str, path: str) -> None:
        """Let only one path mean a file with a shorter name: left/a.obj and right/a.obj are two files."""
        other = self._shortened.setdefault(sent, path)
        if other != path:
            raise SceneError(
                f"'{path[:200]}', which ends as '{other[:200]}' does, and only '{sent[:200]}' was sent",
                hint="send both files, each by more of its path",
            )

    def _free(self, base: str) -> str:
        """Return `base`, or a similar name that is not in use; MuJoCo treats a and A as equal."""
        name, number = base, 1
        while name.casefold() in self._used:
            number += 1
            name = f"{number}-{base}"
        self._used.add(name.casefold())
        return name


def normal(path: str) -> str:
    """Return a path with forward slashes, without `.` and, as far as possible, `..`."""
    parts: list[str] = []
    for part in path.replace("\\", "/").split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def joined(folder: str, path: str) -> str:
    """Return a path that is relative to a folder, as seen from the top."""
    is_absolute = path.startswith(("/", "\\")) or _DRIVE.match(path)
    return normal(path if is_absolute else f"{folder}/{path}")


def base_name(path: str) -> str:
    """Return the last part of a path with slashes or backslashes."""
    return path.replace("\\", "/").rpartition("/")[2]


def folder_of(path: str) -> str:
    """Return a path without its last part."""
    return path.replace("\\", "/").rpartition("/")[0]


def _length(path: str) -> int:
    """Return how many parts a path has, ways up not counted."""
    return sum(part not in ("", "..") for part in path.split("/"))


def _shared_ending(sent: str, place: str) -> int:
    """Return how many of their last parts two paths share; a way up shares nothing."""
    shared = 0
    for one, other in zip(reversed(sent.split("/")), reversed(place.split("/")), strict=False):
        if one != other or one == "..":
            break
        shared += 1
    return shared
