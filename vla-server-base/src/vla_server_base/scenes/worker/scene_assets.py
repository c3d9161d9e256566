"""The files that came with a scene, those of them that MuJoCo gets, and those that did not come."""

import re
import struct
from collections.abc import Mapping

from vla_server_base.errors import MissingAsset, SceneError, SceneRefused
from vla_server_base.scenes import limits
from vla_server_base.scenes.sent_files import SentFiles, base_name

PICTURES_NOT_READ = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "GIF": re.compile(rb"GIF8"),
    "BMP": re.compile(rb"BM.{8}\0\0\0", re.DOTALL),
    "TIFF": re.compile(rb"II\*\0|MM\0\*"),
}
"""Pictures that people take for textures, by how they begin."""

SEND_HINT = "send them as assets by these names, or zip the model's folder and send it as the part 'scene'"
MAX_NAMED = 20


class SceneAssets:
    """One scene's files; `for_mujoco` has what MuJoCo gets, by names without folders.

    Raises:
        SceneRefused: there are too many.
    """

    def __init__(self, sent: Mapping[str, bytes]):
        if len(sent) > limits.MAX_ASSETS:
            raise SceneRefused(
                f"the scene comes with {len(sent)} assets; {limits.MAX_ASSETS} are the most",
                hint="leave out what it does not name",
            )
        self.sent = sent
        self.files = SentFiles(sent)
        self.for_mujoco: dict[str, bytes] = {}
        self.num_xml_bytes = 0
        # By element and path, the line that names it first.
        self._missing: dict[tuple[str, str], str] = {}

    def give(self, name: str, tag: str, where: str) -> str:
        """Give MuJoCo a file for an element, and return the name that it gets.

        Raises:
            SceneRefused: it would unpack to far too much.
            SceneError: it is a picture of a kind that MuJoCo does not read.
        """
        _check(name, self.sent[name], tag, where)
        flat = self.files.flat_name(name)
        self.for_mujoco[flat] = self.sent[name]
        return flat

    def miss(self, tag: str, path: str, where: str) -> None:
        """Keep in mind that an element names a file that did not come."""
        self._missing.setdefault((tag, path), where)

    def check_complete(self) -> None:
        """Name all that is missing at once.

        Raises:
            MissingAsset: something is.
        """
        if not self._missing:
            return
        sent = ", ".join(sorted(self.sent)[:MAX_NAMED])[:500]
        hint = f"assets sent: {sent}" if sent else f"assets sent: none; {SEND_HINT}"
        named = [(where, tag, path) for (tag, path), where in self._missing.items()]
        listed = ", ".join(f"'{path[:120]}' ({where})" for where, _, path in named[:MAX_NAMED])
        more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
        said = f"the scene names {len(named)} assets that the request does not carry: {listed}{more}"
        if len(named) == 1:
            where, tag, path = named[0]
            said = f"{where}: <{tag}> names the asset '{path[:300]}', which the request does not carry"
        raise MissingAsset(said, hint=hint)


def _check(name: str, content: bytes, tag: str, where: str) -> None:
    if content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        if width * height > limits.MAX_ASSET_PIXELS:
            raise SceneRefused(
                f"the asset '{name[:200]}' is a picture of {width} x {height} pixels",
                hint=f"{limits.MAX_ASSET_PIXELS} pixels are the most",
            )
    kind = next((kind for kind, beginning in PICTURES_NOT_READ.items() if beginning.match(content)), None)
    if kind is not None and tag in ("texture", "hfield"):
        png = f"{base_name(name).rpartition('.')[0]}.png"[-80:]
        raise SceneError(
            f"{where}: <{tag}> names '{name[:200]}', which is a {kind}; MuJoCo reads PNG",
            hint=f"convert it, PIL.Image.open(...).convert('RGB').save('{png}'), and name {png} in the scene",
        )
