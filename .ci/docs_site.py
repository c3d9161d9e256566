"""Hooks of `mkdocs`: pages have their paths in the repository, and lists look as they do on a git host."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.hooks")
LIST_IN_PARAGRAPH = re.compile(r"<p>(?:(?!</p>).)*?\n((?:[-*]|\d+\.) .*?)$", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take everything in the folder of documents, and the pages beside it that `nav` names."""
    docs = Path(config.docs_dir)
    root = docs.parent
    paths = {path.relative_to(root).as_posix() for path in docs.rglob("*") if path.is_file()}
    paths |= {path for path in paths_in_nav(config.nav) if (root / path).is_file()}
    pages = [File(path, str(root), config.site_dir, config.use_directory_urls) for path in sorted(paths)]
    return Files([*(file for file in files if file.src_dir != config.docs_dir), *pages])


def paths_in_nav(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for child in entry.values() if isinstance(entry, dict) else entry:
            yield from paths_in_nav(child)


def on_page_content(html: str, page: Page, **_: object) -> None:
    """Warn about a list without an empty line before it, which git hosts show as a list and this site does not."""
    for line in LIST_IN_PARAGRAPH.findall(html):
        log.warning("%s: put an empty line before the list that begins with %r", page.file.src_uri, line)
