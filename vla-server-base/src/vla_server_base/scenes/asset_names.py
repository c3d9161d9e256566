"""Which of a request's files a scene means by a path, and under which harmless name MuJoCo shall find it."""

from collections.abc import Iterable, Mapping

from vla_server_base.errors import MissingAsset, SceneError

FILE_ATTRIBUTES = frozenset({"file", "fileback", "filedown", "filefront", "fileleft", "fileright", "fileup"})
# MuJoCo names these after their file where the scene does not.
_NAMED_AFTER_FILE = frozenset({"hfield", "mesh", "skin", "texture"})
_FOLDER_ATTRIBUTES = ("assetdir", "meshdir", "texturedir")


class AssetNames:
    """The files of one scene.

    `flat` has those that were asked for: their own name, and the name without folders that stands for it.
    """

    def __init__(self, names: Iterable[str]):
        self.flat: dict[str, str] = {}
        self._names = {_normal(name): name for name in names}
        self._by_base: dict[str, list[str]] = {}
        for path in self._names:
            self._by_base.setdefault(path.rpartition("/")[2], []).append(path)
        self._folders: dict[str, str] = {}
        self._strips_paths = False
        self._taken: set[str] = set()

    def look_into(self, compiler: Mapping[str, str]) -> None:
        """Take over where a <compiler> says that files lie; a later one counts more."""
        self._folders |= {name: compiler[name] for name in _FOLDER_ATTRIBUTES if name in compiler}
        self._strips_paths = compiler.get("strippath", str(self._strips_paths)).lower() == "true"

    def with_flat_names(self, tag: str, attributes: Mapping[str, str], line: int) -> dict[str, str]:
        """Return an element's attributes, its files by the names that MuJoCo shall find them under.

        Raises:
            MissingAsset: there is no such file; with the line.
            SceneError: it could be any of several; with the line.
        """
        written = dict(attributes)
        for attribute in attributes:
            if attribute in FILE_ATTRIBUTES:
                written[attribute] = self._flat_name(tag, attributes[attribute], line)
        if tag in _NAMED_AFTER_FILE and "file" in attributes and not attributes.get("name"):
            name = _stem(attributes["file"])
            if name != _stem(written["file"]):
                written["name"] = name
        return written

    def _flat_name(self, tag: str, path: str, line: int) -> str:
        name = self._find(tag, path, line)
        if name not in self.flat:
            self.flat[name] = self._free_name(name.rpartition("/")[2])
        return self.flat[name]

    def _find(self, tag: str, path: str, line: int) -> str:
        """Look where MuJoCo does, then anywhere by the path's end."""
        path = _normal(path.rpartition("/")[2] if self._strips_paths else path)
        kind = "texturedir" if tag == "texture" else "meshdir"
        folder = self._folders.get(kind, self._folders.get("assetdir", ""))
        for candidate in (_normal(f"{folder}/{path}"), path):
            if candidate in self._names:
                return self._names[candidate]
        base = path.rpartition("/")[2]
        ending = [name for name in self._by_base.get(base, ()) if name.endswith(f"/{path}")]
        if not ending:
            sent = ", ".join(sorted(self._names)[:20]) or "none"
            raise MissingAsset(
                f"line {line}: <{tag}> names the asset '{path}', which the request does not carry",
                hint=f"assets sent: {sent[:500]}",
            )
        if len(ending) > 1:
            raise SceneError(
                f"line {line}: <{tag}> names the asset '{path}', which could be any of"
                f" {', '.join(sorted(ending)[:20])[:500]}",
                hint="name it by more of its path, or say meshdir and texturedir in <compiler>",
            )
        return self._names[ending[0]]

    def _free_name(self, base: str) -> str:
        """Return `base`, or what is like it and not taken; MuJoCo does not tell a from A."""
        name, number = base, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{number}-{base}"
        self._taken.add(name.casefold())
        return name


def _stem(path: str) -> str:
    """Return what MuJoCo names an element after that has this file and no name."""
    base = path.rpartition("/")[2]
    return base.rpartition(".")[0] if "." in base else base


def _normal(path: str) -> str:
    """Return a path without steps that lead nowhere."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))
