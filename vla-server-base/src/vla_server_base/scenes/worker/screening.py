"""Reads a client's MJCF before MuJoCo does, and writes it again with only what MuJoCo may see.

MuJoCo opens any file that a scene names and sets no limits. What passes is written again, with every
element on a line of its file, so that MuJoCo's parser cannot read something else than was checked here. Included
files are written in the place of their <include>; the models of <attach> are screened as the scene is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from vla_server_base.errors import SceneError, SceneRefused
from vla_server_base.scenes import limits
from vla_server_base.scenes.messages import Scene
from vla_server_base.scenes.sent_files import normal
from vla_server_base.scenes.worker.asset_names import FILE_ATTRIBUTES
from vla_server_base.scenes.worker.element_checks import check_element, refuse_element
from vla_server_base.scenes.worker.element_counts import ElementCounter
from vla_server_base.scenes.worker.element_files import ElementFiles, FileElement
from vla_server_base.scenes.worker.scene_assets import SceneAssets
from vla_server_base.scenes.worker.source_lines import SourceLines, line_of

# They say where files are or when they are read; MuJoCo gets all files in one folder and reads them at once.
DROPPED_ATTRIBUTES = frozenset({"assetdir", "embed", "meshdir", "passthrough", "strippath", "texturedir"})
ROOT_HINT = "send MJCF: <mujoco>...</mujoco>"
URDF_HINT = "mujoco.MjSpec.from_file('robot.urdf').to_xml() writes URDF as MJCF; add a camera"


@dataclass(frozen=True, kw_only=True)
class ScreenedScene:
    """A scene as MuJoCo may see it; `lines` maps the lines of its XML to those of the client's files."""

    xml: str
    assets: Mapping[str, bytes]
    lines: SourceLines


def screen(scene: Scene) -> ScreenedScene:
    """Return the scene as MuJoCo may see it: checked, merged and written again, with only the assets that it names.

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
class _Screening:
    """One pass over one model: its file, and those that it includes."""

    assets: SceneAssets
    name: str = ""
    around: tuple[str, ...] = ()
    """The models that this one is attached to, by their names."""
    lines: SourceLines = field(default_factory=SourceLines)
    counter: ElementCounter = field(default_factory=ElementCounter)
    _output: list[str] = field(default_factory=list)
    # Elements that name files: they wait for the last <compiler>.
    _file_elements: list[FileElement] = field(default_factory=list)
    _documents: list[_Document] = field(default_factory=list)
    _included: set[str] = field(default_factory=set)
    _output_line: int = 1

    def __post_init__(self):
        self._files = ElementFiles(self.assets, self.name)

    def xml(self) -> str:
        return "".join(self._output)

    def read(self, content: bytes) -> None:
        self._parse(self.name, content)
        for element in self._file_elements:
            self._output[element.place] += _start_tag(element.tag, self._files.flat_attributes(element))

    def _parse(self, name: str, content: bytes) -> None:
        self.assets.num_xml_bytes += len(content)
        if self.assets.num_xml_bytes > limits.MAX_XML_BYTES:
            raise SceneRefused(
                f"the scene's XML is {self.assets.num_xml_bytes} bytes long; the limit is {limits.MAX_XML_BYTES}",
                hint="send large data, such as meshes, as assets",
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
            raise _malformed(name, error) from error
        if len(self._documents) == 1:
            self.counter.count_attached(self._where())
        self._documents.pop()

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        document = self._documents[-1]
        document.num_open += 1
        if document.num_open == 1 and len(self._documents) > 1:
            return  # the root of an included file, and its attributes, count for nothing
        if self.counter.is_at_root and tag != "mujoco":
            raise self._error(f"the root element is <{tag[:40]}>", URDF_HINT if tag == "robot" else ROOT_HINT)
        refuse_element(tag, self._where())
        if tag.lower() == "include":  # as MuJoCo compares it
            self.counter.open_include()
            self._include(attributes.get("file", ""))
        else:
            self._element(tag, attributes)

    def _element(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "compiler":
            self._files.read_compiler(attributes)
        kept = {name: value for name, value in attributes.items() if name not in DROPPED_ATTRIBUTES}
        check_element(tag, kept, self._where())
        self.counter.open(tag, kept, self._where())
        if tag == "model":
            kept = self._with_model(kept)
        if tag == "model" or FILE_ATTRIBUTES.isdisjoint(kept):
            self._write(_start_tag(tag, kept))
        else:
            self._write("")
            self._file_elements.append(self._file_element(tag, kept, place=len(self._output) - 1))

    def _end(self, tag: str) -> None:
        self._documents[-1].num_open -= 1
        if not self._documents[-1].num_open and len(self._documents) > 1:
            return
        self.counter.close()
        if tag.lower() != "include":
            self._output.append(f"</{tag}>")

    def _write(self, text: str) -> None:
        document = self._documents[-1]
        line = document.parser.CurrentLineNumber
        self._output.append("\n" * (line - document.line) + text)
        self._output_line += line - document.line
        document.line = line

    def _include(self, path: str) -> None:
        name = self._files.find(self._file_element("include", {}), path)
        if name is None:
            return
        if name in self._included or normal(name) == normal(self.name):
            raise self._error(f"'{path[:200]}' is included already", "include each file once, and not in itself")
        if len(self._documents) > limits.MAX_INCLUDE_DEPTH:
            raise self._error(
                f"includes are nested more than {limits.MAX_INCLUDE_DEPTH} deep", "include from files nearer to the top"
            )
        self._included.add(name)
        self._begin(name, 1)
        self._parse(name, self.assets.sent[name])
        self._begin(self._documents[-1].name, self._documents[-1].line)

    def _begin(self, file: str, line: int) -> None:
        """Continue in another file."""
        self._output.append("\n")
        self._output_line += 1
        self.lines.begin(self._output_line, file, line)

    def _with_model(self, attributes: Mapping[str, str]) -> dict[str, str]:
        """Screen the model that a <model> names, and return the attributes by which MuJoCo finds it."""
        path = attributes.get("file", "")
        name = self._files.find(self._file_element("model", {}), path)
        # The scene must not choose how MuJoCo reads it.
        kept = {key: value for key, value in attributes.items() if key != "content_type"}
        if name is None:
            return kept
        if len(self.around) >= limits.MAX_MODEL_DEPTH or normal(name) in {*self.around, normal(self.name)}:
            raise self._error(
                f"'{path[:200]}' is attached to itself, or nested too deep", "write its content in its place"
            )
        flat = self.assets.files.flat_name(name, ".xml")
        model = _Screening(self.assets, name=name, around=(*self.around, normal(self.name)))
        model.read(self.assets.sent[name])
        self.counter.add_model(model.counter.counts)
        self.assets.for_mujoco[flat] = model.xml().encode()
        return kept | {"file": flat}

    def _file_element(self, tag: str, attributes: Mapping[str, str], place: int = 0) -> FileElement:
        document = self._documents[-1].name
        return FileElement(tag=tag, attributes=attributes, where=self._where(), document=document, place=place)

    def _refuse_doctype(self, *_declaration: object) -> None:
        raise self._error("a document type (DTD) is not supported", "leave out <!DOCTYPE ...> and its entities")

    def _error(self, message: str, hint: str) -> SceneRefused:
        return SceneRefused(f"{self._where()}: {message}", hint=hint)

    def _where(self) -> str:
        document = self._documents[-1]
        return line_of(document.parser.CurrentLineNumber, document.name)


def _malformed(name: str, error: expat.ExpatError) -> SceneError:
    of_file = f" of {name[:80]}" if name else ""
    return SceneError(
        f"the scene's XML is malformed at line {error.lineno}, column {error.offset + 1}{of_file}:"
        f" {expat.ErrorString(error.code)}",
        hint="correct the XML there",
    )


def _start_tag(tag: str, attributes: Mapping[str, str]) -> str:
    return f"<{tag}{''.join(f' {name}={quoteattr(value)}' for name, value in attributes.items())}>"
