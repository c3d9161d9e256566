"""Documents are true: commands exist, links lead somewhere, examples run, versions agree."""

import dataclasses
import importlib.metadata
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from octo_service.config import OctoConfig
from octo_service.model.random_weights import ARCHITECTURES

ROOT = Path(__file__).parents[1]
PAGE_OF_CLIENTS = (ROOT / "docs" / "clients.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", page.read_text()))
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path):
    names = re.findall(r"`((?:vla-|tests/|docs/|benchmarks/)[\w./-]+)`", page.read_text())
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_the_readmes_script_runs_as_pasted(tmp_path: Path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    script = tmp_path / "script.py"
    script.write_text(code)
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert result.stdout.splitlines()[-1:] == ["(1, 4, 7)"], result.stderr


def test_octos_settings_commands_and_models_are_documented():
    page = (ROOT / "docs" / "octo.md").read_text()
    settings = {f"OCTO_{field.name.upper()}" for field in dataclasses.fields(OctoConfig)}
    named = set(re.findall(r"`(OCTO_\w+)`", page))
    assert named == settings
    usage = subprocess.run(
        [sys.executable, "-m", "octo_service.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    commands = re.search(r"\{([a-z,-]+)\}", usage)
    assert commands is not None
    assert {f"octo-service {name}" for name in commands[1].split(",")} <= set(re.findall(r"octo-service [\w-]+", page))
    assert all(f"random://{name}" in page for name in ARCHITECTURES)


def test_the_table_of_clients_has_each_release_that_is_run():
    releases = runpy.run_path(str(ROOT / "conformance" / "releases.py"))["RELEASES"]
    rows = re.findall(
        r"^\| (.*?) \| (.*?) \| [\d.]+ \| `conformance/.*` \| passed \| [\d-]+ \|$", PAGE_OF_CLIENTS, re.MULTILINE
    )
    assert rows == [(release.title, release.version) for release in releases]


def test_versions_agree():
    versions = {
        importlib.metadata.version(name) for name in ("vla-client", "vla-console", "vla-server-base", "octo-service")
    }
    lerobot = ROOT / "vla-servers" / "lerobot" / "src" / "lerobot_service" / "__init__.py"
    versions |= set(re.findall(r'^__version__ = "(.*)"$', lerobot.read_text(), re.MULTILINE))
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert len(versions) == 1
    assert set(released[:1]) <= versions


def test_the_changelog_has_short_lines():
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    assert "## [Unreleased]" in lines
    assert [line for line in lines if len(line) > 120] == []
    assert [line for line in lines if line and not line.startswith(("#", "- ", "In the form"))] == []


def test_no_address_of_a_package_index_and_no_path_of_a_machine_is_committed():
    pattern = r"pypi\.org|files\.pythonhosted|registry\.npmjs|(^|[^a-z0-9._$}])/(work|root|home|tmp)/[a-z.]"
    command = ["git", "grep", "-nIE", pattern, "--", ".", ":!tests/test_documents.py"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert found.stdout == ""
    locks = subprocess.run(["git", "ls-files", "*uv.lock"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert locks.stdout == ""
