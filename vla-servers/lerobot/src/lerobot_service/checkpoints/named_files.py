"""Folders for what a checkpoint only names: the tokenizers and backbones that its training took from the hub."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lerobot_service.checkpoints.hub import Hub
from vla_server_base.config import ConfigError
from vla_server_base.errors import ModelUnavailable

TOKENIZER = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
PROCESSOR = ("processor_config.json", "preprocessor_config.json")
# What the folder of each name must hold, one file of each group.
NEEDED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "tokenizer_name": (TOKENIZER,),
    "vlm_model_name": (("config.json",), PROCESSOR, TOKENIZER),
    "vision_encoder_name": (("config.json",), ("*.safetensors",)),
    "text_encoder_name": (("config.json",), ("*.safetensors",)),
}
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja")


@dataclass(frozen=True, kw_only=True)
class NamedFiles:
    """Finds folders by `settings` (LEROBOT_FILES), in the checkpoint's `folder`, in the hub's cache, or on the hub."""

    settings: Mapping[str, Path]
    folder: Path
    hub: Hub

    def find(self, field: str, name: str) -> str:
        """Return the folder of what `field` of a configuration ("tokenizer_name") calls `name`.

        Raises:
            ModelOutOfReach: the hub does not answer.
            ModelUnavailable: it is nowhere, or files are missing; the hint is the setting.
        """
        needed = NEEDED[field]
        told = self.settings.get(name)
        if told is not None or os.path.isabs(name):
            folder = told or Path(name)
            if lack := _lack(folder, needed):
                raise ModelUnavailable(
                    f"{field} '{name}' must be in {folder}, which has no {lack}", hint=self._hint(name, needed)
                )
            return str(folder)
        if field == "tokenizer_name" and not _lack(self.folder, needed):
            return str(self.folder)
        patterns = (*SMALL_FILES, *(each for group in needed for each in group if each.endswith(".safetensors")))
        cached = self.hub.cached_files(name, patterns)
        if cached is not None and not _lack(cached, needed):
            return str(cached)
        fetched = self.hub.fetch_files(name, None, patterns, self._hint(name, needed))
        if lack := _lack(fetched, needed):
            raise ModelUnavailable(f"{field} '{name}' on the hub has no {lack}", hint=self._hint(name, needed))
        return str(fetched)

    def _hint(self, name: str, needed: tuple[tuple[str, ...], ...]) -> str:
        files = ", ".join(group[0] for group in needed)
        return f'set LEROBOT_FILES="{name}=FOLDER", a folder with {files}'


def read_settings(files: str) -> dict[str, Path]:
    """Read LEROBOT_FILES: name=folder, separated by spaces.

    Raises:
        ConfigError: a part that has no `=`.
    """
    folders = {}
    for part in files.split():
        name, _, folder = part.partition("=")
        if not name or not folder:
            raise ConfigError(
                f"LEROBOT_FILES has '{part}', which is not name=folder",
                hint='write them as "google/paligemma-3b-pt-224=/models/paligemma", without spaces in a folder',
            )
        folders[name] = Path(folder).expanduser()
    return folders


def _lack(folder: Path, needed: tuple[tuple[str, ...], ...]) -> str:
    absent = [group for group in needed if not any(next(folder.glob(pattern), None) for pattern in group)]
    return " and no ".join(" or ".join(group) for group in absent)
