"""The files that the elements of one model name, and the names by which MuJoCo gets them."""

from collections.abc import Mapping
from dataclasses import dataclass

from vla_server_base.errors import SceneError, SceneRefused
from vla_server_base.scenes.sent_files import base_name, folder_of
from vla_server_base.scenes.worker.asset_names import FILE_ATTRIBUTES, AssetNames, named_after_file
from vla_server_base.scenes.worker.scene_assets import SceneAssets


@dataclass(frozen=True, kw_only=True)
class FileElement:
    """An element that names files; `place` is its index in the output, `document` the file that it is in."""

    tag: str
    attributes: Mapping[str, str]
    where: str
    document: str
    place: int = 0


class ElementFiles:
    """Finds the files of one model, which has the file name `model`."""

    def __init__(self, assets: SceneAssets, model: str):
        self._assets, self._model = assets, model
        self._names = AssetNames(assets.files, folder_of(model))

    def read_compiler(self, attributes: Mapping[str, str]) -> None:
        """Take over the folders of a <compiler>."""
        self._names.read_compiler(attributes)

    def find(self, element: FileElement, path: str) -> str | None:
        """Return the name of the file that an element means by a path; None, and note it, if it was not sent.

        Raises:
            SceneRefused: the path does not end in a file name.
            SceneError: it could be one of several files.
        """
        if base_name(path) in ("", ".", ".."):
            raise SceneRefused(
                f'{element.where}: "{path[:80]}" of <{element.tag}> is not a plain file name',
                hint="name it as the asset is named: file.obj or folder/file.obj",
            )
        try:
            name = self._find(element, path)
        except SceneError as error:
            raise SceneError(
                f"{element.where}: <{element.tag}> names the asset {error.message}", hint=error.hint
            ) from error
        if name is None:
            self._assets.miss(element.tag, path, element.where)
        return name

    def _find(self, element: FileElement, path: str) -> str | None:
        included_from = [folder_of(element.document)] if element.document != self._model else []
        if element.tag in ("include", "model"):
            return self._assets.files.find(path, (folder_of(self._model), *included_from))
        return self._names.find(element.tag, path, included_from)

    def flat_attributes(self, element: FileElement) -> dict[str, str]:
        """Return an element's attributes, with its files by the names that MuJoCo gets them under."""
        attributes = dict(element.attributes)
        for attribute in FILE_ATTRIBUTES & attributes.keys():
            name = self.find(element, attributes[attribute])
            if name is not None:
                attributes[attribute] = self._assets.give(name, element.tag, element.where)
        default_name = named_after_file(element.tag, element.attributes)
        return attributes if default_name == named_after_file(element.tag, attributes) else attributes | default_name
