"""The documentation builds as a site that needs no other host, and a dead link fails the build."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIG = f"INHERIT: {ROOT}/mkdocs.yml\nhooks: [{ROOT}/.ci/docs_site.py]\nnav: [README.md, docs/page.md]\nwatch: []\n"
README = "# Title\n\n## A `part` & more\n\n[a page](docs/page.md#a-list)\n"
PAGE = "# Page\n\n## A list\n\n- [home](../README.md)\n- [there](../README.md#a-part--more)\n"


def build(folder: Path, readme: str = README, page: str = PAGE, **others: str) -> subprocess.CompletedProcess[str]:
    """Build a site of two pages, and of `others` that `nav` does not name, by the project's configuration."""
    (folder / "docs").mkdir()
    (folder / "mkdocs.yml").write_text(CONFIG)
    (folder / "README.md").write_text(readme)
    for name, text in {"page": page, **others}.items():
        (folder / "docs" / f"{name}.md").write_text(text)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_links_lead_to_the_same_places_as_on_a_git_host(tmp_path: Path):
    result = build(tmp_path)
    assert result.returncode == 0, result.stderr
    assert '<a href="docs/page/#a-list">' in (tmp_path / "out" / "site" / "index.html").read_text()
    assert '<a href="../../#a-part--more">' in (tmp_path / "out" / "site" / "docs" / "page" / "index.html").read_text()


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ("[a page](docs/nowhere.md)", "link 'docs/nowhere.md', but the target is not found"),
        ("[a part](docs/page.md#nothing)", "does not contain an anchor '#nothing'"),
        ("[a folder](docs/)", "unrecognized relative link 'docs/'"),
        ("Things:\n- one", "put an empty line before the list that begins with '- one"),
    ],
)
def test_a_dead_link_or_an_unseen_list_fails_the_build(tmp_path: Path, line: str, warning: str):
    result = build(tmp_path, readme=README + "\n" + line)
    assert result.returncode != 0
    assert warning in result.stderr


def test_a_page_that_is_missing_from_the_navigation_fails_the_build(tmp_path: Path):
    result = build(tmp_path, forgotten="# Forgotten\n")
    assert result.returncode != 0
    assert "docs/forgotten.md" in result.stderr


def test_a_page_of_the_site_loads_nothing_from_another_host(tmp_path: Path):
    build(tmp_path)
    page = (tmp_path / "out" / "site" / "docs" / "page" / "index.html").read_text()
    loaded = re.findall(r"<(?:script|link|img)\b[^>]*?(?:src|href)=\"?([^\s\">]+)", page)
    assert len(loaded) > 3
    assert [address for address in loaded if ":" in address or address.startswith("//")] == []
