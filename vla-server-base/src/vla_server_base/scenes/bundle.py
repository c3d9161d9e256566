"""A scene in one file: a zip of an MJCF and the files that it names, which MuJoCo calls .mjz.

Nothing in a stranger's zip is believed, its sizes least of all: it is read up to the limits and no further.
"""

import io
import re
import stat
import zipfile

from vla_server_base.errors import SceneError, SceneRefused
from vla_server_base.scenes import limits
from vla_server_base.scenes.messages import Scene

PREFERRED_NAMES = ("scene.xml", "model.xml")
# Bzip2 and LZMA unpack more slowly, and LZMA into as much memory as the file asks for.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENTRY_SIGNATURE = b"PK\x01\x02"
_ENCRYPTED = 0x1
# What macOS adds of its own.
_RESOURCE_FORK = re.compile(r"(?:^|/)(?:__MACOSX/|\._)")
_MJB_SIGNATURE = (54321).to_bytes(4, "little")
_MJCF_HINT = "send MJCF text; mujoco.MjSpec.to_xml() writes it"


def scene_from_bundle(packed: bytes) -> Scene:
    """Unpack a zip; its files are named as seen from the MJCF's folder. Not for the event loop.

    The MJCF is the only .xml of the topmost folder that has one, else the one called scene.xml or model.xml.

    Raises:
        SceneError: no zip, a damaged one, or one in which no scene is to be found.
        SceneRefused: it holds MJB, paths that lead elsewhere, links, encrypted files, or far too much.
    """
    _check_signature(packed)
    try:
        files = _unpack(packed)
    except SceneError:
        raise
    except Exception as error:  # a stranger's bytes make the reader raise nearly anything
        raise SceneError(
            f"the scene's zip cannot be read: {str(error)[:200]}",
            hint="send a .zip or .mjz file; a scene without files may be sent as MJCF text",
        ) from error
    model = _model(list(files))
    folder = model[: model.rfind("/") + 1]
    assets: dict[str, bytes] = {}
    # Those under the folder first: their short names win over what lies beside it.
    for name in sorted(files, key=lambda name: not name.startswith(folder)):
        if not name.lower().endswith(".xml"):
            assets.setdefault(name.removeprefix(folder), files[name])
    return Scene(xml=mjcf_text(files[model]), assets=assets)


def mjcf_text(encoded: bytes) -> str:
    """Return the MJCF that a file holds.

    Raises:
        SceneRefused: it holds MJB, or no text.
    """
    _check_signature(encoded)
    try:
        return encoded.decode()
    except UnicodeDecodeError as error:
        raise SceneRefused(f"the scene's MJCF is no UTF-8 text (byte {error.start})", hint=_MJCF_HINT) from error


def _check_signature(content: bytes) -> None:
    if content.startswith(_MJB_SIGNATURE):
        raise _refused_mjb()


def _refused_mjb() -> SceneRefused:
    return SceneRefused("MJB is not taken: a damaged one would crash MuJoCo", hint=_MJCF_HINT)


def _unpack(packed: bytes) -> dict[str, bytes]:
    # Every entry that the reader would list bears the signature, wherever the list is said to be.
    if packed.count(_ENTRY_SIGNATURE) > limits.MAX_BUNDLE_ENTRIES:
        raise _refusal(
            f"it has more than {limits.MAX_BUNDLE_ENTRIES} entries", "leave out what the scene does not name"
        )
    largest = min(limits.MAX_BUNDLE_BYTES, max(limits.UNSUSPICIOUS_BYTES, limits.MAX_BUNDLE_RATIO * len(packed)))
    files: dict[str, bytes] = {}
    left = largest
    with zipfile.ZipFile(io.BytesIO(packed)) as bundle:
        for entry in bundle.infolist():
            _check_entry(entry)
            if entry.is_dir() or _RESOURCE_FORK.search(entry.filename):
                continue
            if entry.filename in files:
                raise _refusal(f"'{entry.filename}' is in it twice", "leave one of them out")
            with bundle.open(entry) as file:
                content = file.read(left + 1)
            if len(content) > left:
                raise _refusal(
                    f"it unpacks to more than {largest} bytes",
                    f"at most {limits.MAX_BUNDLE_BYTES} bytes and {limits.MAX_BUNDLE_RATIO} times the zip's own size",
                )
            files[entry.filename] = content
            left -= len(content)
    return files


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    if len(name) > limits.MAX_NAME_CHARS:
        raise _refusal(f"'{name[:80]}...' is a name of {len(name)} characters", f"{limits.MAX_NAME_CHARS} are the most")
    segments = name.removesuffix("/").split("/")
    if "\\" in name or ":" in name or not name.isprintable() or any(part in ("", ".", "..") for part in segments):
        raise _refusal(f"{name!r} leads out of it or nowhere", "name files as folder/file, seen from the zip's top")
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refusal(f"'{name}' is a link or a device", "put the file itself in its place")
    if entry.flag_bits & _ENCRYPTED:
        raise _refusal(f"'{name}' is encrypted", "zip it without a password")
    if entry.compress_type not in _METHODS:
        raise _refusal(f"'{name}' is compressed by method {entry.compress_type}", "deflate and stored are read here")


def _refusal(what: str, hint: str) -> SceneRefused:
    return SceneRefused(f"the scene's zip is not taken: {what}", hint=hint)


def _model(names: list[str]) -> str:
    """Return which of the files is the scene."""
    models = [name for name in names if name.lower().endswith(".xml")]
    if not models and any(name.lower().endswith(".mjb") for name in names):
        raise _refused_mjb()
    if not models:
        inner = next((name for name in names if name.lower().endswith((".zip", ".mjz"))), None)
        found = f", only another zip, '{inner}'" if inner else ""
        raise SceneError(f"the scene's zip holds no .xml{found}", hint="put scene.xml at its top, its files around it")
    depth = min(name.count("/") for name in models)
    topmost = [name for name in models if name.count("/") == depth]
    for wanted in PREFERRED_NAMES:
        named = [name for name in topmost if name.rpartition("/")[2] == wanted]
        if len(topmost) > 1 and len(named) == 1:
            topmost = named
    if len(topmost) > 1:
        raise SceneError(
            f"the scene's zip holds several models: {', '.join(sorted(topmost))[:300]}",
            hint=f"name the one that is meant {PREFERRED_NAMES[0]}",
        )
    return topmost[0]
