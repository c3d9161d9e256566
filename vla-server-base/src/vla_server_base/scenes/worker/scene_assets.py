"""The files that were sent with a scene: which of them MuJoCo gets, and which are missing."""

import re
import struct
from collections.abc import Mapping

from vla_server_base.errors import MissingAsset, SceneError, SceneRefused
from vla_server_base.scenes import limits
from vla_server_base.scenes.sent_files import SentFiles, base_name

UNSUPPORTED_IMAGES = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "GIF": re.compile(rb"GIF8"),
    "BMP": re.compile(rb"BM.{8}\0\0\0", re.DOTALL),
    "TIFF": re.compile(rb"II\*\0|MM\0\*"),
}
"""Images that MuJoCo does not read, by how they begin."""

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
                f"the scene has {len(sent)} assets; the limit is {limits.MAX_ASSETS}",
                hint="leave out those that it does not name",
            )
        self.sent = sent
        self.files = SentFiles(sent)
        self.for_mujoco: dict[str, bytes] = {}
        self.num_xml_bytes = 0
        # By element and path, the line that names it first.
        self._missing: dict[tuple[str, str], str] = {}

    def give(self, name: str, tag: str, where: str) -> str:
        """Give MuJoCo a file for an element, and return its name there.

        Raises:
            SceneRefused: it would unpack to far too much.
            SceneError: it is an image of a kind that MuJoCo does not read.
        """
        _check(name, self.sent[name], tag, where)
        flat = self.files.flat_name(name)
        self.for_mujoco[flat] = self.sent[name]
        return flat

    def miss(self, tag: str, path: str, where: str) -> None:
        """Note that an element names a file that was not sent."""
        self._missing.setdefault((tag, path), where)

    def check_complete(self) -> None:
        """Check that no file is missing.

        Raises:
            MissingAsset: with all files that are.
        """
        if not self._missing:
            return
        sent = ", ".join(sorted(self.sent)[:MAX_NAMED])[:500]
        hint = f"assets sent: {sent}" if sent else f"assets sent: none; {SEND_HINT}"
        named = [(where, tag, path) for (tag, path), where in self._missing.items()]
        listed = ", ".join(f"'{path[:120]}' ({where})" for where, _, path in named[:MAX_NAMED])
        more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
        message = f"the scene names {len(named)} assets that the request does not carry: {listed}{more}"
        if len(named) == 1:
            where, tag, path = named[0]
            message = f"{where}: <{tag}> names the asset '{path[:300]}', which the request does not carry"
        raise MissingAsset(message, hint=hint)


def _check(name: str, content: bytes, tag: str, where: str) -> None:
    if content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        if width * height > limits.MAX_ASSET_PIXELS:
            raise SceneRefused(
                f"the asset '{name[:200]}' is an image of {width} x {height} pixels",
                hint=f"send at most {limits.MAX_ASSET_PIXELS} pixels",
            )
    kind = next((kind for kind, beginning in UNSUPPORTED_IMAGES.items() if beginning.match(content)), None)
    if kind is not None and tag in ("texture", "hfield"):
        png = f"{base_name(name).rpartition('.')[0]}.png"[-80:]
        raise SceneError(
            f"{where}: <{tag}> names '{name[:200]}', which is a {kind}; MuJoCo reads PNG",
            hint=f"convert it, PIL.Image.open(...).convert('RGB').save('{png}'), and name {png} in the scene",
        )
