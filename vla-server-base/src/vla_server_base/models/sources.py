"""Which checkpoints requests may have loaded."""

import os
from fnmatch import fnmatchcase
from pathlib import Path

from vla_server_base.errors import Forbidden, RequestError

_BUNDLED = "bundled://*"


class ModelSources:
    """The permitted checkpoints: patterns such as `hf://my-lab/*`, with `*` for anything, separated by spaces.

    Without patterns they are those that ship with the service, and those beside the first model: other folders in its
    folder, or other revisions of its repository.
    """

    def __init__(self, patterns: str, first_model: str):
        self._patterns = [_expanded(each) for each in patterns.split()] or [_BUNDLED, *_beside(first_model)]

    def permitted(self, checkpoint: str) -> str:
        """Return a checkpoint as an adapter loads it; a folder without links and relative parts.

        Raises:
            Forbidden: it is not permitted.
            RequestError: it names a folder that does not exist.
        """
        source = checkpoint if "://" in checkpoint else os.path.realpath(Path(checkpoint).expanduser())
        if not any(fnmatchcase(source, pattern) for pattern in self._patterns):
            raise Forbidden(
                f"model: this server loads no '{checkpoint[:200]}' for a request",
                hint=f"permitted: {' '.join(self._patterns)}; VLA_MODEL_SOURCES sets others",
            )
        if "://" not in source and not Path(source).exists():
            raise RequestError(f"model: there is no folder '{checkpoint[:200]}'", hint="name a checkpoint's folder")
        return source


def _expanded(pattern: str) -> str:
    return pattern if "://" in pattern else str(Path(pattern).expanduser())


def _beside(first_model: str) -> list[str]:
    if "://" not in first_model:
        folder = Path(first_model).expanduser()
        return [f"{_literal(os.path.realpath(folder.parent))}/*"] if folder.exists() else []
    repository = first_model.partition("@")[0]
    return [_literal(first_model), f"{_literal(repository)}@*"] if first_model.startswith("hf://") else []


def _literal(text: str) -> str:
    """Return a pattern that matches only this text."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)
