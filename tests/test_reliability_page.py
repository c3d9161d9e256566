"""The table of faults is true: each test that it names exists, once, and each fault that a test injects has its row."""

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
ROWS = re.findall(r"^\| (?!Fault \|)(.+?) \| (.+?) \| ((?:`test_\w+`[^|]*)+)\|$", PAGE, re.MULTILINE)
TESTS = [*(ROOT / "vla-server-base" / "tests").rglob("test_*.py"), *(ROOT / "vla-servers").glob("*/tests/**/test_*.py")]
TESTS += (ROOT / "vla-console" / "tests").glob("test_*.py")


def names_in(file: Path) -> list[str]:
    """The tests of a file."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        node.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, functions) and node.name.startswith("test_")
    ]


def named() -> set[str]:
    return set(re.findall(r"`(test_\w+)`", "".join(row[2] for row in ROWS)))


def test_there_are_at_least_24_faults_and_each_is_said_once():
    faults = [fault for fault, _, _ in ROWS]
    assert len(faults) >= 24
    assert len(set(faults)) == len(faults)


def test_each_test_that_a_row_names_exists_once():
    known = Counter(name for file in TESTS for name in names_in(file))
    assert {name: known[name] for name in named() if known[name] != 1} == {}


def test_each_fault_that_is_injected_has_a_row():
    files = (ROOT / "vla-server-base" / "tests" / "faults").glob("test_*.py")
    injected = {name for file in files for name in names_in(file)}
    assert injected - named() == set()
