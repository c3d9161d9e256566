"""JSON files that were edited by hand, and JSON lines whose writer was killed."""

import pytest

from vla_server_base.datasets.json_lines import read_rows
from vla_server_base.datasets.json_values import read_json_values
from vla_server_base.errors import DatasetError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("  \n\n", []),
        ('{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ('\n\n{"a": 1}\n\n\n  {"a": 2}', [{"a": 1}, {"a": 2}]),
        ('{\n  "a": 1\n}\n[\n2\n]', [{"a": 1}, [2]]),
        ('\ufeff{"a": "é"}', [{"a": "é"}]),
        ("1 2 3", [1, 2, 3]),
    ],
)
def test_values_may_be_formatted_in_any_way(tmp_path, text, values):
    (tmp_path / "values.jsonl").write_text(text, encoding="utf-8")
    assert read_json_values(tmp_path / "values.jsonl") == values


@pytest.mark.parametrize(("text", "line"), [('{"a": 1}\n{"a":', 2), ("nothing", 1), ('1\n2\n\n{"a" 1}', 4)])
def test_a_damaged_value_is_named_with_its_line(tmp_path, text, line):
    (tmp_path / "values.jsonl").write_text(text)
    with pytest.raises(DatasetError, match=rf"values\.jsonl, line {line}: ") as error:
        read_json_values(tmp_path / "values.jsonl")
    assert "fix that line" in error.value.hint


def test_another_encoding_is_refused(tmp_path):
    (tmp_path / "values.jsonl").write_bytes('{"a": "é"}'.encode("latin-1"))
    with pytest.raises(DatasetError, match="expected text in UTF-8"):
        read_json_values(tmp_path / "values.jsonl")


@pytest.mark.parametrize(
    ("content", "rows", "num_bytes"),
    [(b"", [], 0), (b"1\n2\n", [1, 2], 4), (b"1\n2", [1], 2), (b'{"a"', [], 0)],
)
def test_only_complete_lines_are_rows(tmp_path, content, rows, num_bytes):
    (tmp_path / "rows.jsonl").write_bytes(content)
    assert read_rows(tmp_path / "rows.jsonl") == (rows, num_bytes)


def test_a_damaged_complete_line_is_an_error(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b"1\n{\n2\n")
    with pytest.raises(ValueError, match="Expecting"):
        read_rows(tmp_path / "rows.jsonl")
