"""`octo-service certify`, and docs/certificate.md, which shows what it writes and prints."""

import contextlib
import io
import json
import re
from pathlib import Path

import pytest

from octo_service.commands import recorded_outputs
from octo_service.program import OCTO
from vla_server_base.commands.command_line import parse, run

PAGE = (Path(__file__).parents[4] / "docs" / "certificate.md").read_text()


def certify(*arguments: str | Path) -> str:
    """What it prints; it exits with 0."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        run(OCTO, parse(OCTO, ["certify", "--predictions", "5", *map(str, arguments)]))
    return printed.getvalue()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory):
    """A certificate of the bundled policy, compared with one set of the reference's outputs instead of all."""
    path = tmp_path_factory.mktemp("certified") / "certificate.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorded_outputs, "REFERENCE_SETS", ("l1_map_tokenlearner",))
        certify("--model", "bundled://tabletop", "--out", path)
        yield path


def form_of(value: object) -> object:
    """The keys of a value, all the way down; how many entries a list has does not count."""
    if isinstance(value, dict):
        return {name: form_of(each) for name, each in value.items()}
    return [form_of(value[0])] if isinstance(value, list) and value else type(value).__name__


def test_the_page_shows_the_form_of_the_file(path: Path):
    shown = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
    assert form_of(shown) == form_of(json.loads(path.read_text()))


def test_the_bundled_policy_answers_as_it_was_recorded(path: Path):
    ours, reference = json.loads(path.read_text())["deviations"]
    assert ours["name"] == "the bundled policy's recorded outputs"
    assert all(each["largest"] <= each["tolerance"] for each in (ours, reference))


def test_a_certificate_is_verified_line_by_line_as_the_page_shows(path: Path):
    shown = re.search(r"## What has to hold\n\n```\n(.*?)```", PAGE, re.DOTALL)[1]
    lines = certify("--verify", path).splitlines()
    assert {line.split()[1] for line in lines if line.startswith("ok")} == {
        line.split()[1] for line in shown.splitlines() if line.startswith("ok")
    }
