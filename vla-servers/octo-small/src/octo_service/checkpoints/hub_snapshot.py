"""One repository's files, from the Hugging Face hub or its cache on this machine.

All traffic is huggingface_hub's own: its cache, its tokens, HF_ENDPOINT, HF_HUB_OFFLINE. What is added here:
only the files needed are fetched, what arrived is checked against the hub's hashes, a hub out of reach
does not matter where the snapshot is cached, and every error says what to do.
"""

import errno
import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.utils import filter_repo_objects

from octo_service.errors import HubError, HubUnreachable

logger = logging.getLogger(__name__)

SCHEME = "hf://"
TIMEOUT_S = 10
STORAGE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Where files are wanted from.

    `patterns_for` selects the wanted files, or raises LookupError with what the repository lacks; `instead`
    says what the user can do without a hub.
    """

    name: str
    revision: str | None
    patterns_for: Callable[[set[str]], list[str]]
    cache_dir: Path | None
    endpoint: str | None
    instead: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}" + (f"@{self.revision}" if self.revision else "")


def fetch_snapshot(repository: Repository) -> Path:
    """Return the folder of a snapshot with the wanted files; its name is the commit.

    Raises:
        HubError: the files cannot be fetched; the hint says what to do.
    """
    try:
        api = huggingface_hub.HfApi(endpoint=repository.endpoint)
        info = api.model_info(repository.name, revision=repository.revision, timeout=TIMEOUT_S)
    except errors.RevisionNotFoundError as error:
        raise _explained(error, repository) from error
    except Exception as error:  # the client's HTTP library, and so its errors, changed twice in two years
        folder = _cached_snapshot(repository)
        if folder is None:
            raise _explained(error, repository) from error
        logger.warning("using %s from the cache: %s", repository, _in_short(error))
        return folder
    return _download_snapshot(repository, {file.rfilename for file in info.siblings or ()}, info.sha)


def _cached_snapshot(repository: Repository) -> Path | None:
    try:
        folder = _snapshot(repository, [], local_files_only=True)
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        return _snapshot(repository, repository.patterns_for(files), local_files_only=True)
    except (LookupError, errors.LocalEntryNotFoundError):
        return None


def _download_snapshot(repository: Repository, files: set[str], commit: str | None) -> Path:
    try:
        patterns = repository.patterns_for(files)
    except LookupError as error:
        raise HubError(f"{repository} {error}", hint=repository.instead) from error
    wanted = filter_repo_objects(files, allow_patterns=patterns)
    fresh = [file for file in wanted if not _is_cached(repository, file, commit)]
    try:
        folder = _snapshot(repository, patterns, local_files_only=False)
    except Exception as error:
        raise _explained(error, repository) from error
    if damaged := [file for file in fresh if _is_damaged(folder / file)]:
        for file in damaged:
            (folder / file).resolve().unlink()
            (folder / file).unlink(missing_ok=True)
        raise HubUnreachable(
            f"{', '.join(damaged)} of {repository} arrived damaged (its hash is wrong) and was removed",
            hint=f"start again to download it once more, or {repository.instead}",
        )
    return folder


def _snapshot(repository: Repository, patterns: list[str], *, local_files_only: bool) -> Path:
    folder = huggingface_hub.snapshot_download(
        repository.name,
        revision=repository.revision,
        cache_dir=repository.cache_dir,
        endpoint=repository.endpoint,
        allow_patterns=patterns,
        local_files_only=local_files_only,
    )
    return Path(folder)


def _is_cached(repository: Repository, file: str, commit: str | None) -> bool:
    cached = huggingface_hub.try_to_load_from_cache(
        repository.name, file, cache_dir=repository.cache_dir, revision=commit
    )
    return isinstance(cached, str)


def _is_damaged(file: Path) -> bool:
    """Compare a file with its name in the hub's cache: a git blob's SHA-1, a large file's SHA-256."""
    blob = file.resolve()
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
        return False
    is_large = len(blob.name) == 64
    digest = hashlib.sha256() if is_large else hashlib.sha1(f"blob {blob.stat().st_size}\0".encode())
    with blob.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest() != blob.name


def _explained(error: Exception, repository: Repository) -> HubError:
    """Return what went wrong and what to do."""
    endpoint = repository.endpoint or constants.ENDPOINT
    hub, instead, detail = f"the hub at {endpoint}", repository.instead, _in_short(error)
    if isinstance(error, errors.GatedRepoError):
        page = f"{endpoint}/{repository.name}"
        return HubError(f"{repository} is gated", hint=f"accept its terms at {page} and set HF_TOKEN, or {instead}")
    if isinstance(error, errors.RepositoryNotFoundError):
        name = repository.name
        return HubError(
            f"{hub} has no model {name} that you can read", hint=f"check the name, set HF_TOKEN, or {instead}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(
            f"{hub} has no revision '{repository.revision}' of {repository.name}",
            hint="give a branch, a tag or a full commit hash after the @, or leave it out for the newest",
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubError(
            f"HF_HUB_OFFLINE is set and {repository} is not completely cached", hint=f"unset it, or {instead}"
        )
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        return HubError(f"{hub} lists a file of {repository} that it does not have ({detail})", hint=instead)
    if isinstance(error, OSError) and error.errno in STORAGE_FAULTS:
        return HubError(
            f"{repository} cannot be stored ({detail})", hint="free disk space, or set HF_HOME to a larger disk"
        )
    if "Consistency check failed" in detail or type(error).__name__ == "RemoteProtocolError":
        return HubUnreachable(
            f"the download of {repository} was cut short ({detail})", hint=f"start again, or {instead}"
        )
    kind = HubUnreachable if _may_pass(error) else HubError
    return kind(
        f"{hub} gave no valid answer ({detail}) and {repository} is not completely cached",
        hint=f"check the network and HF_ENDPOINT, or {instead}",
    )


def _may_pass(error: Exception) -> bool:
    """Return whether another try may help: not where the hub says that the request is wrong."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    is_refused = isinstance(status, int) and 400 <= status < 500 and status not in (408, 429)
    return not is_refused and not isinstance(error, errors.HFValidationError)


def _in_short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
