"""`octo-service certify`, and docs/certificate.md, which shows what it writes and prints."""

import json
import re
from pathlib import Path

import pytest
from test_commands import octo_service

PAGE = (Path(__file__).parents[4] / "docs" / "certificate.md").read_text()
MODEL = ("--model", "bundled://tabletop", "--predictions", "5")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certified")
    path = folder / "certificate.json"
    result = octo_service("certify", *MODEL, "--out", path, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return path


def form_of(value: object) -> object:
    """The keys of a value, all the way down; how many entries of a list is no part of it."""
    if isinstance(value, dict):
        return {name: form_of(each) for name, each in value.items()}
    return [form_of(value[0])] if isinstance(value, list) and value else type(value).__name__


def test_the_page_shows_the_form_of_the_file(path: Path):
    shown = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
    written = json.loads(path.read_text())
    assert form_of(shown) == form_of(written)
    assert [each["name"] for each in shown["deviations"]] == [each["name"] for each in written["deviations"]]


def test_the_bundled_policy_answers_as_recorded(path: Path):
    deviations = {each["name"]: each for each in json.loads(path.read_text())["deviations"]}
    recorded = deviations["the bundled policy's recorded outputs"]
    assert recorded["largest"] <= recorded["tolerance"]
    assert len(deviations) > 1


def test_it_is_verified_line_by_line_as_the_page_shows(path: Path):
    result = octo_service("certify", "--predictions", "5", "--verify", path, cwd=path.parent)
    assert result.returncode == 0, result.stdout + result.stderr
    shown = re.search(r"## What has to hold\n\n```\n(.*?)```", PAGE, re.DOTALL)[1]
    names = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("ok")]
    assert names == [line.split()[1] for line in shown.splitlines() if line.startswith("ok")]
