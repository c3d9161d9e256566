"""Every error says what to do: each construction of a VLAError in the source passes a hint."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    *ROOT.glob("vla-client/src/**/*.py"),
    *ROOT.glob("vla-server-base/src/**/*.py"),
    *ROOT.glob("vla-servers/*/src/**/*.py"),
]


def name_of(node: ast.expr) -> str | None:
    """The last part of a name, such as `ImageError` of `errors.ImageError`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def error_classes(trees: list[ast.Module]) -> dict[str, ast.ClassDef]:
    """The subclasses of VLAError, and itself, by name."""
    classes = {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    errors = {"VLAError": classes["VLAError"]}
    while more := {
        name: node
        for name, node in classes.items()
        if name not in errors and errors.keys() & {name_of(base) for base in node.bases}
    }:
        errors |= more
    return errors


def supplies_a_hint(error: ast.ClassDef) -> bool:
    """Whether the class's own __init__ passes a hint to that of VLAError."""
    constructors = [node for node in error.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    calls = [node for constructor in constructors for node in ast.walk(constructor) if isinstance(node, ast.Call)]
    return any(keyword.arg == "hint" for call in calls for keyword in call.keywords)


def constructions_without_a_hint(tree: ast.Module, needing_hints: set[str]) -> Iterator[int]:
    """The lines in which an error is constructed without a hint, or raised as a bare class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None and name_of(node.exc) in needing_hints:
            yield node.lineno
        if isinstance(node, ast.Call) and name_of(node.func) in needing_hints:
            hints = [keyword.value for keyword in node.keywords if keyword.arg == "hint"]
            if not hints or (isinstance(hints[0], ast.Constant) and not hints[0].value):
                yield node.lineno


@pytest.mark.parametrize("package", ["vla_client", "vla_server_base", "octo_service", "lerobot_service"])
def test_every_error_has_a_hint(package: str):
    # The classes that a package sees: a later one of the same name, such as DeadlineExceeded, replaces an earlier one.
    visible = SOURCES[: max(index for index, file in enumerate(SOURCES) if package in file.parts) + 1]
    errors = error_classes([ast.parse(file.read_text()) for file in visible])
    needing_hints = {name for name, node in errors.items() if not supplies_a_hint(node)}
    assert [
        f"{file.relative_to(ROOT)}:{line}"
        for file in visible
        if package in file.parts
        for line in constructions_without_a_hint(ast.parse(file.read_text()), needing_hints)
    ] == []


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ('raise ImageError("no", hint="do")', []),
        ('raise ImageError("no")', [1]),
        ('raise ImageError("no", hint="")', [1]),
        ('raise ImageError("no", hint=None)', [1]),
        ("raise ImageError", [1]),
        ('failed = errors.ImageError("no")', [1]),
        ('raise ValueError("no")', []),
    ],
)
def test_a_construction_without_a_hint_is_seen(code: str, lines: list[int]):
    assert list(constructions_without_a_hint(ast.parse(code), {"ImageError"})) == lines


def test_an_error_that_supplies_its_hint_is_recognized():
    (with_hint, without) = ast.parse(
        "class A(VLAError):\n  def __init__(self, what):\n    super().__init__(what, hint='do')\n"
        "class B(VLAError):\n  def __init__(self, what):\n    super().__init__(what)\n"
    ).body
    assert isinstance(with_hint, ast.ClassDef)
    assert isinstance(without, ast.ClassDef)
    assert (supplies_a_hint(with_hint), supplies_a_hint(without)) == (True, False)
