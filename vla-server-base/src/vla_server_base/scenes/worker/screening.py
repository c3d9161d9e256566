"""Reads a stranger's MJCF before MuJoCo does, and writes down again only what MuJoCo may see.

MuJoCo opens whatever file a scene names and has no limits of its own. What passes is written anew, with every
element on a line of its file, so that MuJoCo's parser cannot read something else than was checked here. Included
files are written in the place of their <include>; the models of <attach> are screened as the scene is.
"""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import prod
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from vla_server_base.errors import SceneError, SceneRefused
from vla_server_base.scenes import limits
from vla_server_base.scenes.messages import Scene
from vla_server_base.scenes.sent_files import base_name, folder_of, normal
from vla_server_base.scenes.worker.asset_names import FILE_ATTRIBUTES, AssetNames, named_after_file
from vla_server_base.scenes.worker.scene_assets import SceneAssets
from vla_server_base.scenes.worker.schema import ATTRIBUTES
from vla_server_base.scenes.worker.source_lines import SourceLines, line_of

REFUSED_ELEMENTS = {
    "extension": "plugins run native code; leave them out",
    "plugin": "plugins run native code; leave them out",
    "composite": "MuJoCo 4 has it no more; <replicate> makes copies, <flexcomp> ropes and cloth",
}
# They say where files lie or when they are read; MuJoCo gets all files in one folder and reads them at once.
DROPPED_ATTRIBUTES = frozenset({"assetdir", "embed", "meshdir", "passthrough", "strippath", "texturedir"})
ROOT_HINT = "a scene is MJCF: <mujoco>...</mujoco>"
URDF_HINT = "mujoco.MjSpec.from_file('robot.urdf').to_xml() writes URDF as MJCF; add a camera"
_NAME_HINT = "name it as the asset is named: file.obj or folder/file.obj"
BYTES_PER_SUFFIX = {suffix: 1024**power for power, suffix in enumerate("KMGTPE", start=1)}


@dataclass(frozen=True, kw_only=True)
class ScreenedScene:
    """A scene as MuJoCo may see it; `lines` says where each line of its XML comes from."""

    xml: str
    assets: Mapping[str, bytes]
    lines: SourceLines


def screen(scene: Scene) -> ScreenedScene:
    """Return the scene as MuJoCo may see it: checked, put together and written anew, with only the assets it names.

    Raises:
        SceneError: the XML is malformed, or a file that it names could be one of several; with the line.
        SceneRefused: it asks for plugins, or for far too much; with the line.
        MissingAsset: it names assets that the request does not carry; with all of them.
    """
    assets = SceneAssets(scene.assets)
    screened = _Screening(assets)
    screened.read(scene.xml.encode("utf-8", "replace"))
    assets.check_complete()
    return ScreenedScene(xml=screened.xml(), assets=assets.for_mujoco, lines=screened.lines)


@dataclass
class _Document:
    """A file of XML that is being read; the scene itself has no name."""

    name: str
    parser: expat.XMLParserType
    line: int = 1
    num_open: int = 0


@dataclass
class _Counts:
    """What a model would become."""

    elements: int = 0
    flex_points: int = 0
    texels: int = 0


@dataclass
class _Screening:
    """One pass over one model: its file, and those that it includes."""

    assets: SceneAssets
    name: str = ""
    around: tuple[str, ...] = ()
    """The models that this one is attached to, by their names."""
    lines: SourceLines = field(default_factory=SourceLines)
    counts: _Counts = field(default_factory=_Counts)
    _written: list[str] = field(default_factory=list)
    # For each open element, how many copies of its children the replicates around them make.
    _replicas: list[int] = field(default_factory=list)
    # Elements that name files, by their place in what is written: they wait for the last <compiler>.
    _naming: list["_Element"] = field(default_factory=list)
    _documents: list[_Document] = field(default_factory=list)
    _included: set[str] = field(default_factory=set)
    _models: list[_Counts] = field(default_factory=list)
    _num_attached: int = 0
    _written_line: int = 1

    def __post_init__(self):
        self._names = AssetNames(self.assets.files, folder_of(self.name))

    def xml(self) -> str:
        return "".join(self._written)

    def read(self, content: bytes) -> None:
        self._parse(self.name, content)
        for element in self._naming:
            self._written[element.place] += _start_tag(element.tag, self._with_flat_names(element))

    def _parse(self, name: str, content: bytes) -> None:
        self.assets.num_xml_bytes += len(content)
        if self.assets.num_xml_bytes > limits.MAX_XML_BYTES:
            raise SceneRefused(
                f"the scene's XML is {self.assets.num_xml_bytes} bytes long; {limits.MAX_XML_BYTES} is the most",
                hint="send numbers that fill pages, such as meshes, as assets",
            )
        # No namespaces: MuJoCo knows none, and takes <include xmlns="..."> for an include.
        parser = expat.ParserCreate("utf-8")
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        self._documents.append(_Document(name=name, parser=parser))
        try:
            parser.Parse(content, True)
        except expat.ExpatError as error:
            of_file = f" of {name[:80]}" if name else ""
            raise SceneError(
                f"the scene's XML is malformed at line {error.lineno}, column {error.offset + 1}{of_file}:"
                f" {expat.ErrorString(error.code)}"
            ) from error
        if len(self._documents) == 1:
            self._count_attached()
        self._documents.pop()

    def _count_attached(self) -> None:
        """Count each attached model as the largest that there is."""
        for what in ("elements", "flex_points", "texels"):
            largest = max((getattr(counts, what) for counts in self._models), default=0)
            setattr(self.counts, what, getattr(self.counts, what) + self._num_attached * largest)
        self._check_counts("with the models that are attached, this makes")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        document = self._documents[-1]
        document.num_open += 1
        if document.num_open == 1 and len(self._documents) > 1:
            return  # what an included file's root is, and says, counts for nothing
        if not self._replicas and tag != "mujoco":
            raise self._refusal(f"the root element is <{tag[:40]}>", URDF_HINT if tag == "robot" else ROOT_HINT)
        if tag in REFUSED_ELEMENTS:
            raise self._refusal(f"<{tag}> is not taken", REFUSED_ELEMENTS[tag])
        if tag.lower() == "include":  # as MuJoCo compares it
            self._replicas.append(self._replicas[-1])
            self._include(attributes.get("file", ""))
        else:
            self._take(tag, attributes)

    def _take(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "compiler":
            self._names.look_into(attributes)
        kept = {name: value for name, value in attributes.items() if name not in DROPPED_ATTRIBUTES}
        self._check_known(tag, kept)
        for name, value in kept.items():
            self._check_range(tag, name, value)
        self._count(tag, kept)
        if tag == "model":
            kept = self._with_model(kept)
        if tag == "model" or FILE_ATTRIBUTES.isdisjoint(kept):
            self._write(_start_tag(tag, kept))
        else:
            self._write("")
            self._naming.append(self._element(tag, kept, place=len(self._written) - 1))

    def _end(self, tag: str) -> None:
        self._documents[-1].num_open -= 1
        if not self._documents[-1].num_open and len(self._documents) > 1:
            return
        self._replicas.pop()
        if tag.lower() != "include":
            self._written.append(f"</{tag}>")

    def _write(self, text: str) -> None:
        document = self._documents[-1]
        line = document.parser.CurrentLineNumber
        self._written.append("\n" * (line - document.line) + text)
        self._written_line += line - document.line
        document.line = line

    def _check_known(self, tag: str, attributes: Collection[str]) -> None:
        if tag not in ATTRIBUTES:
            raise self._unknown(f"<{tag[:40]}> is no element of MJCF that is known here", tag, ATTRIBUTES)
        for name in attributes:
            if name not in ATTRIBUTES[tag]:
                raise self._unknown(f"<{tag}> takes no attribute '{name[:40]}'", name, ATTRIBUTES[tag])

    def _include(self, path: str) -> None:
        name = self._file("include", path)
        if name is None:
            return
        if name in self._included or normal(name) == normal(self.name):
            raise self._refusal(
                f"'{path[:200]}' is included already", "MuJoCo takes each file once, and none by itself"
            )
        if len(self._documents) > limits.MAX_INCLUDE_DEPTH:
            raise self._refusal(
                f"{limits.MAX_INCLUDE_DEPTH} files are inside one another", "include from files further up"
            )
        self._included.add(name)
        self._begin(name, 1)
        self._parse(name, self.assets.sent[name])
        self._begin(self._documents[-1].name, self._documents[-1].line)

    def _begin(self, file: str, line: int) -> None:
        """Go on in another file."""
        self._written.append("\n")
        self._written_line += 1
        self.lines.begin(self._written_line, file, line)

    def _with_model(self, attributes: Mapping[str, str]) -> dict[str, str]:
        """Screen the model that a <model> names, once, and return how MuJoCo will find it."""
        path = attributes.get("file", "")
        name = self._file("model", path)
        # What MuJoCo takes it for is not for the scene to say.
        kept = {key: value for key, value in attributes.items() if key != "content_type"}
        if name is None:
            return kept
        if len(self.around) >= limits.MAX_MODEL_DEPTH or normal(name) in {*self.around, normal(self.name)}:
            raise self._refusal(
                f"'{path[:200]}' is attached to itself, or too deep", "write what it holds in its place"
            )
        flat = self.assets.files.flat_name(name, ".xml")
        model = _Screening(self.assets, name=name, around=(*self.around, normal(self.name)))
        model.read(self.assets.sent[name])
        self._models.append(model.counts)
        self.assets.for_mujoco[flat] = model.xml().encode()
        return kept | {"file": flat}

    def _with_flat_names(self, element: "_Element") -> dict[str, str]:
        """Return an element's attributes, its files by the names that MuJoCo shall find them under."""
        written = dict(element.attributes)
        for attribute in FILE_ATTRIBUTES & written.keys():
            name = self._found(element, written[attribute])
            if name is not None:
                written[attribute] = self.assets.give(name, element.tag, element.where)
        name = named_after_file(element.tag, element.attributes)
        return written if name == named_after_file(element.tag, written) else written | name

    def _file(self, tag: str, path: str) -> str | None:
        """Return the file of XML that an element names, seen from the model's folder or from its own."""
        return self._found(self._element(tag, {}), path)

    def _element(self, tag: str, attributes: Mapping[str, str], place: int = 0) -> "_Element":
        document = self._documents[-1].name
        return _Element(tag=tag, attributes=attributes, where=self._where(), document=document, place=place)

    def _found(self, element: "_Element", path: str) -> str | None:
        if base_name(path) in ("", ".", ".."):
            raise SceneRefused(
                f'{element.where}: "{path[:80]}" of <{element.tag}> is not a plain file name', hint=_NAME_HINT
            )
        try:
            included_from = [folder_of(element.document)] if element.document != self.name else []
            if element.tag in ("include", "model"):
                name = self.assets.files.find(path, (folder_of(self.name), *included_from))
            else:
                name = self._names.find(element.tag, path, included_from)
        except SceneError as error:
            raise SceneError(
                f"{element.where}: <{element.tag}> names the asset {error.message}", hint=error.hint
            ) from error
        if name is None:
            self.assets.miss(element.tag, path, element.where)
        return name

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
        self.counts.elements += around
        if tag == "attach":
            if "model" not in attributes:
                raise self._refusal("<attach> without a model is not taken", "write the body in its place")
            self._num_attached += around
        if tag == "flexcomp":
            points = max(self._product(tag, name, attributes) for name in ("count", "cellcount"))
            self.counts.flex_points += around * points
        if tag == "texture":
            width, height = (self._product(tag, name, attributes) for name in ("width", "height"))
            # A cube has six squares, whatever it says its height is.
            self.counts.texels += width * max(height, 6 * width if attributes.get("type") != "2d" else 1)
        self._replicas.append(inside)
        for what, number, largest in (
            ("levels of elements", len(self._replicas), limits.MAX_DEPTH),
            ("replicas of one element", inside, limits.MAX_REPLICAS),
        ):
            if number > largest:
                raise self._refusal(f"this makes {number} {what} and {largest} is the most", "make it smaller")
        self._check_counts()

    def _product(self, tag: str, attribute: str, attributes: Mapping[str, str]) -> int:
        numbers = self._numbers(tag, attribute, attributes.get(attribute, "1"))
        # A zero beside a huge number must not hide it; nor is every float an integer.
        return prod(int(min(max(number, 1.0), 1e12)) for number in numbers)

    def _check_counts(self, when: str = "this makes") -> None:
        for what, number, largest in (
            ("elements, replicated ones counted,", self.counts.elements, limits.MAX_ELEMENTS),
            ("points in flexcomps", self.counts.flex_points, limits.MAX_FLEX_POINTS),
            ("texels in textures", self.counts.texels, limits.MAX_TEXELS),
        ):
            if number > largest:
                raise self._refusal(f"{when} {number} {what} and {largest} is the most", "make it smaller")

    def _numbers(self, tag: str, attribute: str, value: str) -> list[float]:
        try:
            numbers = [_number(word) for word in value.split()]
        except ValueError:
            numbers = [float("nan")]
        if any(number != number for number in numbers):
            raise SceneError(f'{self._where()}: {attribute}="{value[:40]}" of <{tag}> is not a number')
        return numbers

    def _refuse_doctype(self, *_declaration: object) -> None:
        raise self._refusal("a document type (DTD) is not taken", "leave out <!DOCTYPE ...> and its entities")

    def _unknown(self, what: str, name: str, known: Collection[str]) -> SceneError:
        found = difflib.get_close_matches(name[: limits.MAX_NAME_CHARS], known, n=1)
        hint = f"did you mean '{found[0]}'?" if found else "leave it out"
        return SceneError(f"{self._where()}: {what}", hint=hint)

    def _refusal(self, what: str, hint: str) -> SceneRefused:
        return SceneRefused(f"{self._where()}: {what}", hint=hint)

    def _where(self) -> str:
        document = self._documents[-1]
        return line_of(document.parser.CurrentLineNumber, document.name)


@dataclass(frozen=True, kw_only=True)
class _Element:
    """An element that names files; `place` is its own in what is written, `document` the file that it stands in."""

    tag: str
    attributes: Mapping[str, str]
    where: str
    document: str
    place: int = 0


def _start_tag(tag: str, attributes: Mapping[str, str]) -> str:
    return f"<{tag}{''.join(f' {name}={quoteattr(value)}' for name, value in attributes.items())}>"


def _number(word: str) -> float:
    """Read a number, or a number of bytes as `<size memory="100M"/>` has it."""
    factor = BYTES_PER_SUFFIX.get(word[-1:].upper())
    return float(word[:-1]) * factor if factor else float(word)
