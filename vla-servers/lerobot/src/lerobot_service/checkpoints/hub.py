"""Files of the Hugging Face hub, or of its cache on this machine, with errors that say what to do.

All traffic is huggingface_hub's own: its cache, its tokens, HF_ENDPOINT, HF_HUB_OFFLINE.
"""

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants, errors

from vla_server_base.errors import ModelOutOfReach, ModelUnavailable

SCHEME = "hf://"
# What a checkpoint is made of; optimizer states, videos and pickled files stay where they are.
MODEL_FILES = ("*.json", "*.safetensors", "tokenizer.model", "spiece.model", "merges.txt", "vocab.txt")
NOT_MODEL_FILES = ("training_state/*", "*/training_state/*", "optimizer*")
INSTEAD = "set LEROBOT_MODEL to a checkpoint's folder"
STORAGE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


@dataclass(frozen=True, kw_only=True)
class Hub:
    """The hub at `endpoint` and its cache; None is what huggingface_hub takes by itself (HF_ENDPOINT, HF_HUB_CACHE)."""

    endpoint: str | None = None
    cache_dir: Path | None = None

    def fetch_model(self, model_id: str) -> Path:
        """Return the folder of `hf://org/name[@revision]`; its name is the commit.

        Raises:
            ModelOutOfReach: the hub does not answer and the model is not cached; another try may help.
            ModelUnavailable: not found, gated, or not to be stored.
        """
        name, _, revision = model_id.removeprefix(SCHEME).partition("@")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            hint = "write hf://org/name or hf://org/name@revision"
            raise ModelUnavailable(f"'{model_id}' names no repository", hint=hint)
        return self.fetch_files(name, revision or None, MODEL_FILES, INSTEAD)

    def fetch_files(self, name: str, revision: str | None, patterns: Sequence[str], instead: str) -> Path:
        """Return the folder of a snapshot with the files that match `patterns`; `instead` is a way on without a hub.

        Raises:
            ModelOutOfReach, ModelUnavailable: as `fetch_model`.
        """
        try:
            folder = huggingface_hub.snapshot_download(
                name,
                revision=revision,
                cache_dir=self.cache_dir,
                endpoint=self.endpoint,
                allow_patterns=list(patterns),
                ignore_patterns=list(NOT_MODEL_FILES),
            )
        except Exception as error:  # the client's HTTP library, and so its errors, changed twice in two years
            raise self._explained(_cause(error), name, revision, instead) from error
        return Path(folder)

    def cached_files(self, name: str, patterns: Sequence[str]) -> Path | None:
        """Return the folder of a snapshot if the cache on this machine has these files of it, else None."""
        try:
            folder = huggingface_hub.snapshot_download(
                name, cache_dir=self.cache_dir, allow_patterns=list(patterns), local_files_only=True
            )
        except (errors.LocalEntryNotFoundError, errors.HFValidationError):
            return None
        return Path(folder)

    def _explained(self, error: BaseException, name: str, revision: str | None, instead: str) -> ModelUnavailable:
        endpoint = self.endpoint or constants.ENDPOINT
        hub, model = f"the hub at {endpoint}", f"{SCHEME}{name}" + (f"@{revision}" if revision else "")
        if isinstance(error, errors.GatedRepoError):
            hint = f"accept its terms at {endpoint}/{name} and set HF_TOKEN, or {instead}"
            return ModelUnavailable(f"{model} is gated", hint=hint)
        if isinstance(error, errors.RevisionNotFoundError):
            return ModelUnavailable(
                f"{hub} has no revision '{revision}' of {name}",
                hint="give a branch, a tag or a full commit hash after the @, or leave it out for the newest",
            )
        if isinstance(error, errors.RepositoryNotFoundError):
            return ModelUnavailable(
                f"{hub} has no model {name} that you can read", hint=f"check the name, set HF_TOKEN, or {instead}"
            )
        if isinstance(error, errors.OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
            return ModelUnavailable(
                f"HF_HUB_OFFLINE is set and {model} is not completely cached", hint=f"unset it, or {instead}"
            )
        if isinstance(error, OSError) and error.errno in STORAGE_FAULTS:
            return ModelUnavailable(
                f"{model} cannot be stored ({_in_short(error)})",
                hint="free disk space, or set HF_HOME to a larger disk",
            )
        kind = ModelOutOfReach if _may_pass(error) else ModelUnavailable
        return kind(
            f"{hub} gave no valid answer ({_in_short(error)}) and {model} is not completely cached",
            hint=f"check the network and HF_ENDPOINT, or {instead}",
        )


def _cause(error: Exception) -> BaseException:
    """Return why files are not there: the client says only that they are not cached, and keeps the reason."""
    is_general = isinstance(error, errors.LocalEntryNotFoundError)
    return (error.__cause__ or error) if is_general else error


def _may_pass(error: BaseException) -> bool:
    """Return whether another try may help: not where the hub says that the request is wrong."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    is_refused = isinstance(status, int) and 400 <= status < 500 and status not in (408, 429)
    return not is_refused and not isinstance(error, errors.HFValidationError)


def _in_short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
