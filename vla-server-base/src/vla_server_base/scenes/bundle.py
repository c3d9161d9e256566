"""A scene in one file: a zip of an MJCF and the files that it names, which MuJoCo calls .mjz.

Nothing in a client's zip is trusted, its sizes least of all: it is read up to the limits and no further.
"""

import io
import posixpath
import re
import stat
import zipfile
from collections.abc import Iterable, Mapping

from vla_server_base.errors import SceneError, SceneRefused
from vla_server_base.scenes import limits
from vla_server_base.scenes.messages import Scene
from vla_server_base.scenes.model_files import whole_models
from vla_server_base.scenes.sent_files import normal

PREFERRED_NAMES = ("scene.xml", "model.xml")
MODEL_ENDINGS = (".xml", ".mjcf")
# Bzip2 and LZMA unpack more slowly, and LZMA takes as much memory as the file says.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENTRY_SIGNATURE = b"PK\x01\x02"
_ENCRYPTED = 0x1
# Files that macOS adds.
_RESOURCE_FORK = re.compile(r"(?:^|/)(?:__MACOSX/|\._)")
_DRIVE = re.compile(r"[A-Za-z]:")
_MJB_SIGNATURE = (54321).to_bytes(4, "little")
_MJCF_HINT = "send MJCF, the XML that it was compiled from"


def scene_from_bundle(packed: bytes, scene_file: str | None = None) -> Scene:
    """Unpack a zip; its files are named as seen from the scene's folder. Not for the event loop.

    The scene is `scene_file`; without it the only .xml that has a <worldbody> and that no other includes; of several,
    the only one in the topmost folder that has one, or the one there named scene.xml or model.xml.

    Raises:
        SceneError: it is not a zip, is damaged, or has no scene, or several.
        SceneRefused: it holds MJB, paths that leave it, links, encrypted files, or far too much.
    """
    _check_signature(packed)
    try:
        files = _unpack(packed)
    except SceneError:
        raise
    except Exception as error:  # damaged bytes make the reader raise nearly anything
        raise SceneError(
            f"the scene's zip cannot be read: {str(error)[:200]}",
            hint="send a .zip or .mjz file; a scene without files may be sent as MJCF text",
        ) from error
    model = _named_model(scene_file, files) if scene_file is not None else _only_model(files)
    folder = posixpath.dirname(model)
    assets = {_seen_from(folder, name): files[name] for name in files if name != model}
    return Scene(xml=mjcf_text(files[model]), assets=assets)


def _seen_from(folder: str, name: str) -> str:
    return posixpath.relpath(f"/{name}", f"/{folder}")


def mjcf_text(encoded: bytes) -> str:
    """Return the MJCF that a file holds.

    Raises:
        SceneRefused: it holds MJB, or bytes that are not UTF-8 text.
    """
    _check_signature(encoded)
    try:
        return encoded.decode()
    except UnicodeDecodeError as error:
        raise SceneRefused(f"the scene's MJCF is not UTF-8 text (byte {error.start})", hint=_MJCF_HINT) from error


def _check_signature(content: bytes) -> None:
    if content.startswith(_MJB_SIGNATURE):
        raise _refused_mjb()


def _refused_mjb() -> SceneRefused:
    return SceneRefused("MJB is not supported: a damaged file would crash MuJoCo", hint=_MJCF_HINT)


def _unpack(packed: bytes) -> dict[str, bytes]:
    # Every entry that the reader would list has the signature, wherever the list is.
    if packed.count(_ENTRY_SIGNATURE) > limits.MAX_BUNDLE_ENTRIES:
        raise _error(f"it has more than {limits.MAX_BUNDLE_ENTRIES} entries", "leave out what the scene does not name")
    largest = min(limits.MAX_BUNDLE_BYTES, max(limits.UNSUSPICIOUS_BYTES, limits.MAX_BUNDLE_RATIO * len(packed)))
    files: dict[str, bytes] = {}
    left = largest
    with zipfile.ZipFile(io.BytesIO(packed)) as bundle:
        for entry in bundle.infolist():
            entry.filename = entry.filename.replace("\\", "/")  # as Windows' own Compress-Archive writes it
            _check_entry(entry)
            if entry.is_dir() or _RESOURCE_FORK.search(entry.filename):
                continue
            if entry.filename in files:
                raise _error(f"'{entry.filename}' is in it twice", "leave one of them out")
            with bundle.open(entry) as file:
                content = file.read(left + 1)
            if len(content) > left:
                raise _error(
                    f"it unpacks to more than {largest} bytes",
                    f"send at most {limits.MAX_BUNDLE_BYTES} bytes and {limits.MAX_BUNDLE_RATIO} times the zip's size",
                )
            files[entry.filename] = content
            left -= len(content)
    return files


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    if len(name) > limits.MAX_NAME_CHARS:
        raise _error(
            f"'{name[:80]}...' is a name of {len(name)} characters", f"use at most {limits.MAX_NAME_CHARS} characters"
        )
    segments = name.removesuffix("/").split("/")
    if _DRIVE.match(name) or not name.isprintable() or any(part in ("", ".", "..") for part in segments):
        raise _error(f"{name!r} is not a path inside it", "name files as folder/file, from the top of the zip")
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _error(f"'{name}' is a link or a device", "put the file itself in its place")
    if entry.flag_bits & _ENCRYPTED:
        raise _error(f"'{name}' is encrypted", "zip it without a password")
    if entry.compress_type not in _METHODS:
        raise _error(f"'{name}' is compressed by method {entry.compress_type}", "use deflate or no compression")


def _error(what: str, hint: str) -> SceneRefused:
    return SceneRefused(f"the scene's zip is refused: {what}", hint=hint)


def _named_model(scene_file: str, files: Mapping[str, bytes]) -> str:
    """Return the file that has this path, or whose path ends so."""
    ending = f"/{normal(scene_file)}"
    named = [name for name in files if f"/{name}" == ending]
    named = named or [name for name in files if f"/{name}".endswith(ending)]
    if len(named) != 1:
        problem = f"could be any of {_listed(named)}" if named else "is not in the scene's zip"
        models = named or [name for name in files if name.lower().endswith(MODEL_ENDINGS)]
        raise SceneError(f"scene_file '{scene_file[:200]}' {problem}", hint=f"name one of: {_listed(models)}")
    return named[0]


def _only_model(files: Mapping[str, bytes]) -> str:
    """Return the only file that can be the scene."""
    models = [name for name in files if name.lower().endswith(MODEL_ENDINGS)]
    if not models and any(name.lower().endswith(".mjb") for name in files):
        raise _refused_mjb()
    if not models:
        inner = next((name for name in files if name.lower().endswith((".zip", ".mjz"))), None)
        other = f", only another zip, '{inner}'" if inner else ""
        raise SceneError(f"the scene's zip has no .xml{other}", hint="put scene.xml at its top, its files around it")
    scenes = models if len(models) == 1 else whole_models({name: files[name] for name in models}) or models
    depth = min(name.count("/") for name in scenes)
    topmost = [name for name in scenes if name.count("/") == depth]
    for wanted in PREFERRED_NAMES:
        named = [name for name in topmost if posixpath.basename(name) == wanted]
        if len(topmost) > 1 and len(named) == 1:
            topmost = named
    if len(topmost) > 1:
        raise SceneError(
            f"the scene's zip holds several models: {_listed(topmost)}",
            hint=f'name one: "scene_file": "{sorted(topmost)[0][:200]}"',
        )
    return topmost[0]


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:20])[:600] + (f" and {len(ordered) - 20} more" if len(ordered) > 20 else "")
