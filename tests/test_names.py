"""One name for one thing: no class name is used twice, and words that were replaced stay away."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    file
    for folder in ("vla-client", "vla-console", "vla-server-base", "vla-servers/octo-small", "vla-servers/lerobot")
    for file in sorted((ROOT / folder / "src").rglob("*.py"))
]

OLD_WORDS = {
    *("anew", "anticipate", "anticipated", "anticipation", "glance", "glances", "heard", "instrument", "instruments"),
    *("listening", "openness", "phrasing", "phrasings", "rarer", "remember", "remembered"),
    *("tally", "timetable", "told"),
}
"""In a name, whatever stands beside them: `listening_table`, `told_of`."""

OLD_NAMES = {
    *("apart", "drivers", "edge", "everything", "found", "frames", "held", "late", "lead", "look", "own", "past"),
    *("pieces", "reading", "refusal", "said", "spent", "stand_in", "taken", "take_turn", "there", "together", "turn"),
}
"""As whole names only: `held_out`, `read_frames` and `NotFound` are the field's words."""

OLD_CLASSES = {"Answer", "Context", "Driver", "Thing", "TurnRequest", "Watch"}


def defined_names(code: str) -> Iterator[tuple[str, bool]]:
    """Yield the names of functions, classes and module-level variables, and whether each is a class."""
    module = ast.parse(code)
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, isinstance(node, ast.ClassDef)
    for statement in module.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        for target in targets:
            for node in ast.walk(target) if target is not None else ():
                if isinstance(node, ast.Name):
                    yield node.id, False


def old_names(code: str) -> list[str]:
    return [
        name
        for name, is_class in defined_names(code)
        if OLD_WORDS & {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
        or name.strip("_").lower() in OLD_NAMES
        or (is_class and name.strip("_") in OLD_CLASSES)
    ]


def repeated_classes(codes: list[str]) -> list[str]:
    counts = Counter(
        node.name for code in codes for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ClassDef)
    )
    return sorted(name for name, count in counts.items() if count > 1 and not name.startswith("_"))


@pytest.mark.parametrize(
    ("service", "other"), [("octo_service", "lerobot_service"), ("lerobot_service", "octo_service")]
)
def test_every_public_class_has_a_name_of_its_own(service: str, other: str):
    """Among those of a service and of what it imports; services know no other."""
    assert repeated_classes([file.read_text() for file in SOURCES if other not in file.parts]) == [], service


def test_a_class_name_that_is_used_twice_is_noticed():
    assert repeated_classes(["class Job: ...", "class Job: ...\nclass Pool: ...", "class _Key: ...", "class _Key: ..."])


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_old_word_is_defined(file: Path):
    assert old_names(file.read_text()) == []


@pytest.mark.parametrize(
    "code",
    [
        "def anticipate(): ...",
        "class Policy:\n    async def _told_of(self): ...",
        "listening_table = {}",
        "RAREST, (GLANCES, _) = 1, (2, 3)",
        "_held: int = 0",
        "class TurnRequest: ...",
        "class _Reading: ...",
    ],
)
def test_an_old_word_is_noticed(code: str):
    assert len(old_names(code)) == 1


@pytest.mark.parametrize("code", ["HELD_OUT = ()", "class NotFound: ...", "def read_frames(): ..."])
def test_the_fields_words_are_allowed(code: str):
    assert old_names(code) == []
