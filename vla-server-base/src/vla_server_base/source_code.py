"""SourceCode: a hash of the packages that answer, so that two servers can be told apart or found equal."""

import hashlib
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class SourceCode:
    """The sources of installed packages, by name."""

    packages: tuple[str, ...]

    @classmethod
    def of(cls, adapter: object) -> "SourceCode":
        """Return the code with which an adapter answers: its own package's, and this one's."""
        own = type(adapter).__module__.partition(".")[0]
        return cls(tuple(sorted({"vla_server_base", own})))

    @cached_property
    def sha256(self) -> str:
        """The hash of all Python files and their names; it reads them, so not for the event loop."""
        digest = hashlib.sha256()
        for package in self.packages:
            for name, path in _sources(package):
                digest.update(f"{name}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
        return digest.hexdigest()


def _sources(package: str) -> list[tuple[str, Path]]:
    """Return the Python files of an imported package, or of a module, with their names in it, in order."""
    origin = sys.modules[package].__file__
    if origin is None:
        return []
    folder = Path(origin).parent
    files = folder.rglob("*.py") if Path(origin).name == "__init__.py" else [Path(origin)]
    return sorted((f"{package}/{path.relative_to(folder).as_posix()}", path) for path in files)
