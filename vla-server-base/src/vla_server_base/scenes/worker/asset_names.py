"""Where the files of a model are, and how MuJoCo names the elements that it makes of them."""

from collections.abc import Mapping, Sequence

from vla_server_base.scenes.sent_files import SentFiles, base_name, joined

FILE_ATTRIBUTES = frozenset({"file", "fileback", "filedown", "filefront", "fileleft", "fileright", "fileup"})
# MuJoCo names these after their file if the scene does not name them.
_NAMED_AFTER_FILE = frozenset({"hfield", "mesh", "skin", "texture"})
_FOLDER_ATTRIBUTES = ("assetdir", "meshdir", "texturedir")


class AssetNames:
    """The files of one model, which is in `folder`."""

    def __init__(self, files: SentFiles, folder: str = ""):
        self._files = files
        self._folder = folder
        self._folders: dict[str, str] = {}
        self._strips_paths = False

    def read_compiler(self, compiler: Mapping[str, str]) -> None:
        """Take over the folders of a <compiler>; later ones win."""
        self._folders |= {name: compiler[name] for name in _FOLDER_ATTRIBUTES if name in compiler}
        self._strips_paths = compiler.get("strippath", str(self._strips_paths)).lower() == "true"

    def find(self, tag: str, path: str, included_from: Sequence[str]) -> str | None:
        """Return the name of the file that an element means, or None if it was not sent.

        As in MuJoCo, the search is in the <compiler>'s folder below the model's, then in that of an included file.

        Raises:
            SceneError: it could be any of several.
        """
        path = base_name(path) if self._strips_paths else path
        kind = "texturedir" if tag == "texture" else "meshdir"
        folder = self._folders.get(kind, self._folders.get("assetdir", ""))
        return self._files.find(path, (joined(self._folder, folder), *included_from))


def named_after_file(tag: str, attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the name that MuJoCo would give to an element after its file; it gets the file by another name."""
    if tag not in _NAMED_AFTER_FILE or "file" not in attributes or attributes.get("name"):
        return {}
    base = base_name(attributes["file"])
    return {"name": base.rpartition(".")[0] if "." in base else base}
