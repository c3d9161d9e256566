"""Which files of MJCF are whole models, and which are parts of others."""

from collections.abc import Mapping
from xml.parsers import expat

from vla_server_base.errors import SceneError
from vla_server_base.scenes import limits
from vla_server_base.scenes.sent_files import SentFiles, folder_of


def whole_models(files: Mapping[str, bytes]) -> list[str]:
    """Return the files of MJCF that have a world, or include one, and that no other file includes or attaches.

    Raises:
        SceneError: they are too long to search.
    """
    if sum(len(content) for content in files.values()) > 4 * limits.MAX_XML_BYTES:
        raise SceneError(
            "the scene's zip has too much XML to find the scene in it", hint='name it: "scene_file": "scene.xml"'
        )
    outlines = {name: _Outline(content) for name, content in files.items()}
    sent = SentFiles(files)
    parts = {name: {_part(sent, name, path) for path in outline.names} - {name} for name, outline in outlines.items()}
    parts_of_others = set().union(*parts.values())
    return [
        name
        for name in files
        if name not in parts_of_others
        and outlines[name].root == "mujoco"
        and any(outlines[part].has_world for part in _with_parts(name, parts))
    ]


def _part(sent: SentFiles, name: str, path: str) -> str | None:
    try:
        return sent.find(path, (folder_of(name),))
    except SceneError:  # it could be any of several
        return None


def _with_parts(name: str, parts: Mapping[str, set[str | None]]) -> set[str]:
    """Return a file and all that it includes, directly or not."""
    files, pending = {name}, [name]
    while pending:
        more = {part for part in parts[pending.pop()] if part is not None} - files
        files |= more
        pending += more
    return files


class _Outline:
    """The root of a file, the files that it names, and whether it has a world; empty if it is not XML."""

    def __init__(self, content: bytes):
        self.names: list[str] = []
        self.root = ""
        self.has_world = False
        parser = expat.ParserCreate("utf-8")
        parser.StartElementHandler = self._start
        parser.StartDoctypeDeclHandler = self._stop
        try:
            parser.Parse(content, True)
        except (expat.ExpatError, StopIteration):
            self.root = self.root or "?"

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self.root = self.root or tag
        self.has_world = self.has_world or tag == "worldbody"
        if tag in ("include", "model") and "file" in attributes:
            self.names.append(attributes["file"])

    def _stop(self, *_declaration: object) -> None:
        raise StopIteration
