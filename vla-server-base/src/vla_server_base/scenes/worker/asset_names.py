"""Where a model says that its files lie, and what MuJoCo calls what it made of them."""

from collections.abc import Mapping, Sequence

from vla_server_base.scenes.sent_files import SentFiles, base_name, joined

FILE_ATTRIBUTES = frozenset({"file", "fileback", "filedown", "filefront", "fileleft", "fileright", "fileup"})
# MuJoCo names these after their file where the scene does not.
_NAMED_AFTER_FILE = frozenset({"hfield", "mesh", "skin", "texture"})
_FOLDER_ATTRIBUTES = ("assetdir", "meshdir", "texturedir")


class AssetNames:
    """The files of one model, which lies in `folder`."""

    def __init__(self, files: SentFiles, folder: str = ""):
        self._files = files
        self._folder = folder
        self._folders: dict[str, str] = {}
        self._strips_paths = False

    def look_into(self, compiler: Mapping[str, str]) -> None:
        """Take over where a <compiler> says that files lie; a later one counts more."""
        self._folders |= {name: compiler[name] for name in _FOLDER_ATTRIBUTES if name in compiler}
        self._strips_paths = compiler.get("strippath", str(self._strips_paths)).lower() == "true"

    def find(self, tag: str, path: str, included_from: Sequence[str]) -> str | None:
        """Return the name of the file that an element means, None where it did not come.

        As MuJoCo does, look from the model's folder by way of the <compiler>'s, then in that of an included file.

        Raises:
            SceneError: it could be any of several.
        """
        path = base_name(path) if self._strips_paths else path
        kind = "texturedir" if tag == "texture" else "meshdir"
        folder = self._folders.get(kind, self._folders.get("assetdir", ""))
        return self._files.find(path, (joined(self._folder, folder), *included_from))


def named_after_file(tag: str, attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the name that MuJoCo would give to an element after its file, which it will see by another name."""
    if tag not in _NAMED_AFTER_FILE or "file" not in attributes or attributes.get("name"):
        return {}
    base = base_name(attributes["file"])
    return {"name": base.rpartition(".")[0] if "." in base else base}
