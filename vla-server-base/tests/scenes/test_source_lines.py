"""Lines of a merged document are those of the files that it came from."""

import pytest

from vla_server_base.scenes.worker.source_lines import SourceLines, line_of


@pytest.fixture
def merged() -> SourceLines:
    """A scene whose line 3 includes arm.xml, which has four lines."""
    lines = SourceLines()
    lines.begin(4, "arm.xml", 1)
    lines.begin(8, "", 3)
    return lines


@pytest.mark.parametrize(
    ("written", "source"),
    [(1, "line 1"), (3, "line 3"), (4, "line 1 of arm.xml"), (7, "line 4 of arm.xml"), (9, "line 4")],
)
def test_each_line_is_named_by_its_file(merged, written, source):
    assert merged.explain(f"XML Error at line {written}, column 5") == f"XML Error at {source}, column 5"


def test_both_of_mujocos_ways_to_name_a_line_are_understood(merged):
    assert merged.explain("Element 'geom', line = 5") == "Element 'geom', line 2 of arm.xml"


def test_a_message_without_a_line_stays_as_it_is(merged):
    assert (
        merged.explain("mass must be positive; a linear 5 is no line") == "mass must be positive; a linear 5 is no line"
    )


def test_a_long_name_is_cut_and_the_main_file_has_none():
    assert line_of(3, "") == "line 3"
    assert line_of(3, "x" * 200) == f"line 3 of {'x' * 80}"
