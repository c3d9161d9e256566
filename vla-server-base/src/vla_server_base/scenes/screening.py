"""Reads a stranger's MJCF before MuJoCo does, and writes down again only what MuJoCo may see.

MuJoCo opens whatever file a scene names and has no limits of its own. What passes is written anew, with
every element on its line, so that MuJoCo's parser cannot read something else than was checked here.
"""

import difflib
import re
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import prod
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from vla_server_base.errors import SceneError, SceneRefused
from vla_server_base.scenes import limits
from vla_server_base.scenes.asset_names import FILE_ATTRIBUTES, AssetNames
from vla_server_base.scenes.messages import Scene
from vla_server_base.scenes.schema import ATTRIBUTES

REFUSED_ELEMENTS = {
    "include": "it reads a file; flatten the model first: mujoco.MjSpec.from_file(path).to_xml() writes it as one",
    "model": "it reads a file; write what the file holds in place of the <attach>",
    "attach": "it needs another model's file; write what that file holds in its place",
    "extension": "plugins run native code; leave them out",
    "plugin": "plugins run native code; leave them out",
    "composite": "MuJoCo 4 has it no more; use <replicate> or <flexcomp>",
}
# They say where files lie or when they are read; MuJoCo gets all files in one folder and reads them at once.
DROPPED_ATTRIBUTES = frozenset({"assetdir", "embed", "meshdir", "passthrough", "strippath", "texturedir"})

PLAIN_PATH = re.compile(r"(?:[\w.+() -]+/+)*[\w.+() -]+")
BYTES_PER_SUFFIX = {suffix: 1024**power for power, suffix in enumerate("KMGTPE", start=1)}


def screen(scene: Scene) -> Scene:
    """Return the scene as MuJoCo may see it: checked, written anew, with only the assets that it names.

    Raises:
        SceneError: the XML is malformed, or a file that it names could be one of several; with the line.
        SceneRefused: it names files, plugins, or asks for far too much; with the line.
        MissingAsset: it names an asset that the request does not carry.
    """
    document = scene.xml.encode("utf-8", "replace")
    if len(document) > limits.MAX_XML_BYTES:
        raise SceneRefused(
            f"the scene's XML is {len(document)} bytes long; {limits.MAX_XML_BYTES} is the most",
            hint="send numbers that fill pages, such as meshes, as assets",
        )
    if len(scene.assets) > limits.MAX_ASSETS:
        raise SceneRefused(
            f"the scene comes with {len(scene.assets)} assets; {limits.MAX_ASSETS} are the most",
            hint="leave out what it does not name",
        )
    screened = _Screening(AssetNames(scene.assets))
    screened.read(document)
    for name in screened.assets.flat:
        _check_asset(name, scene.assets[name])
    assets = {flat: scene.assets[name] for name, flat in screened.assets.flat.items()}
    return Scene(xml="".join(screened.written), assets=assets)


@dataclass
class _Screening:
    """One pass over one document."""

    assets: AssetNames
    written: list[str] = field(default_factory=list)
    # For each open element, how many copies of its children the replicates around them make.
    _replicas: list[int] = field(default_factory=list)
    # Elements that name files, by their place in `written`: they wait for the last <compiler>.
    _naming: list["_Element"] = field(default_factory=list)
    _num_elements: int = 0
    _num_flex_points: int = 0
    _num_texels: int = 0
    _written_line: int = 1

    def read(self, document: bytes) -> None:
        # No namespaces: MuJoCo knows none, and takes <include xmlns="..."> for an include.
        self._parser = expat.ParserCreate("utf-8")
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        try:
            self._parser.Parse(document, True)
        except expat.ExpatError as error:
            raise SceneError(
                f"the scene's XML is malformed at line {error.lineno}, column {error.offset + 1}:"
                f" {expat.ErrorString(error.code)}"
            ) from error
        for element in self._naming:
            attributes = self.assets.with_flat_names(element.tag, element.attributes, element.line)
            self.written[element.place] += _start_tag(element.tag, attributes)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._replicas and tag != "mujoco":
            raise self._refusal(f"the root element is <{tag[:40]}>", "a scene is MJCF: <mujoco>...</mujoco>")
        if tag in REFUSED_ELEMENTS:
            raise self._refusal(f"<{tag}> is not taken", REFUSED_ELEMENTS[tag])
        if tag == "compiler":
            self.assets.look_into(attributes)
        kept = {name: value for name, value in attributes.items() if name not in DROPPED_ATTRIBUTES}
        self._check_known(tag, kept)
        for name, value in kept.items():
            if name in FILE_ATTRIBUTES:
                self._check_path(tag, name, value)
            self._check_range(tag, name, value)
        self._count(tag, kept)
        if FILE_ATTRIBUTES.isdisjoint(kept):
            self._write(_start_tag(tag, kept))
        else:
            self._write("")
            line = self._parser.CurrentLineNumber
            self._naming.append(_Element(place=len(self.written) - 1, line=line, tag=tag, attributes=kept))

    def _end(self, tag: str) -> None:
        self._replicas.pop()
        self.written.append(f"</{tag}>")

    def _write(self, text: str) -> None:
        line = self._parser.CurrentLineNumber
        self.written.append("\n" * (line - self._written_line) + text)
        self._written_line = line

    def _check_known(self, tag: str, attributes: Collection[str]) -> None:
        if tag not in ATTRIBUTES:
            raise self._unknown(f"<{tag[:40]}> is no element of MJCF that is known here", tag, ATTRIBUTES)
        for name in attributes:
            if name not in ATTRIBUTES[tag]:
                raise self._unknown(f"<{tag}> takes no attribute '{name[:40]}'", name, ATTRIBUTES[tag])

    def _check_path(self, tag: str, attribute: str, path: str) -> None:
        is_plain = len(path) <= limits.MAX_NAME_CHARS and PLAIN_PATH.fullmatch(path)
        segments = path.split("/")
        if not is_plain or ".." in segments or segments[-1] == ".":
            raise self._refusal(
                f'{attribute}="{path[:80]}" of <{tag}> is not a plain file name',
                "send the file as an asset and name it here as it is named there: file.obj or folder/file.obj",
            )

    def _check_range(self, tag: str, attribute: str, value: str) -> None:
        taken = limits.ATTRIBUTE_RANGES.get(f"{tag}/{attribute}") or limits.ATTRIBUTE_RANGES.get(attribute)
        if taken is None:
            return
        for number in self._numbers(tag, attribute, value):
            if number > taken.largest:
                raise self._refusal(f'{attribute}="{value[:40]}" of <{tag}> is more than {taken.largest}', taken.reason)
            if number < taken.least:
                raise self._refusal(f'{attribute}="{value[:40]}" of <{tag}> is less than {taken.least}', taken.reason)

    def _count(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Count the element as often as the replicates around it make it, and open it."""
        around = self._replicas[-1] if self._replicas else 1
        inside = around
        if tag == "replicate":
            inside *= self._product(tag, "count", attributes)
        self._num_elements += around
        if tag == "flexcomp":
            points = max(self._product(tag, name, attributes) for name in ("count", "cellcount"))
            self._num_flex_points += around * points
        if tag == "texture":
            width, height = (self._product(tag, name, attributes) for name in ("width", "height"))
            # A cube has six squares, whatever it says its height is.
            self._num_texels += width * max(height, 6 * width if attributes.get("type") != "2d" else 1)
        self._replicas.append(inside)
        for what, number, largest in (
            ("elements, replicated ones counted,", self._num_elements, limits.MAX_ELEMENTS),
            ("levels of elements", len(self._replicas), limits.MAX_DEPTH),
            ("replicas of one element", inside, limits.MAX_REPLICAS),
            ("points in flexcomps", self._num_flex_points, limits.MAX_FLEX_POINTS),
            ("texels in textures", self._num_texels, limits.MAX_TEXELS),
        ):
            if number > largest:
                raise self._refusal(f"this makes {number} {what} and {largest} is the most", "make it smaller")

    def _product(self, tag: str, attribute: str, attributes: Mapping[str, str]) -> int:
        numbers = self._numbers(tag, attribute, attributes.get(attribute, "1"))
        # A zero beside a huge number must not hide it; nor is every float an integer.
        return prod(int(min(max(number, 1.0), 1e12)) for number in numbers)

    def _numbers(self, tag: str, attribute: str, value: str) -> list[float]:
        try:
            numbers = [_number(word) for word in value.split()]
        except ValueError:
            numbers = [float("nan")]
        if any(number != number for number in numbers):
            line = self._parser.CurrentLineNumber
            raise SceneError(f'line {line}: {attribute}="{value[:40]}" of <{tag}> is not a number')
        return numbers

    def _refuse_doctype(self, *_declaration: object) -> None:
        raise self._refusal("a document type (DTD) is not taken", "leave out <!DOCTYPE ...> and its entities")

    def _unknown(self, what: str, name: str, known: Collection[str]) -> SceneError:
        found = difflib.get_close_matches(name[: limits.MAX_NAME_CHARS], known, n=1)
        hint = f"did you mean '{found[0]}'?" if found else "leave it out"
        return SceneError(f"line {self._parser.CurrentLineNumber}: {what}", hint=hint)

    def _refusal(self, what: str, hint: str) -> SceneRefused:
        return SceneRefused(f"line {self._parser.CurrentLineNumber}: {what}", hint=hint)


@dataclass(frozen=True, kw_only=True)
class _Element:
    """An element that names files."""

    place: int
    line: int
    tag: str
    attributes: Mapping[str, str]


def _start_tag(tag: str, attributes: Mapping[str, str]) -> str:
    return f"<{tag}{''.join(f' {name}={quoteattr(value)}' for name, value in attributes.items())}>"


def _number(word: str) -> float:
    """Read a number, or a number of bytes as `<size memory="100M"/>` has it."""
    factor = BYTES_PER_SUFFIX.get(word[-1:].upper())
    return float(word[:-1]) * factor if factor else float(word)


def _check_asset(name: str, content: bytes) -> None:
    if content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        if width * height > limits.MAX_ASSET_PIXELS:
            raise SceneRefused(
                f"the asset '{name}' is a picture of {width} x {height} pixels",
                hint=f"{limits.MAX_ASSET_PIXELS} pixels are the most",
            )
