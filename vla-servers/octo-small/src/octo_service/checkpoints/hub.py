"""`hf://org/name[@revision]` and plain folders: where a model's files are, fetching what is not here yet."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from octo_service.checkpoints.hub_snapshot import SCHEME, Repository, fetch_snapshot
from octo_service.errors import HubError

MODEL_FILES = ("config.json", "dataset_statistics.json", "example_batch.msgpack")
TOKENIZER_FILE = "tokenizer.json"
# Where policies lie that come with the package.
BUNDLED_SCHEME, BUNDLED = "bundled://", Path(__file__).parents[1] / "bundled"
# What to do if the hub cannot be reached.
INSTEAD_OF_MODEL = "set OCTO_MODEL to bundled://tabletop, a policy that needs no network, or to a checkpoint folder"
INSTEAD_OF_TOKENIZER = "set OCTO_TOKENIZER to a spiece.model or tokenizer.json of T5"


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """A model's folder on this machine and, if it came from the hub, its commit."""

    folder: Path
    revision: str | None


def resolve(
    model_id: str, cache_dir: Path | None = None, *, step: int | None = None, endpoint: str | None = None
) -> ResolvedModel:
    """Find a model's folder: a folder as it is, `hf://org/name[@revision]` through the hub's cache, `bundled://name`.

    Of several steps only the latest is downloaded, unless told. `cache_dir` None is the hub's own cache
    (HF_HUB_CACHE), `endpoint` None the hub's own address (HF_ENDPOINT).

    Raises:
        HubError: the model cannot be had; the message says why and what to do.
    """
    if model_id.startswith(BUNDLED_SCHEME):
        return ResolvedModel(folder=_bundled(model_id.removeprefix(BUNDLED_SCHEME)), revision=None)
    if not model_id.startswith(SCHEME):
        folder = Path(model_id).expanduser()
        if not folder.is_dir():
            raise HubError(f"there is no folder '{model_id}'", hint="give one, or hf://org/name[@revision]")
        return ResolvedModel(folder=folder, revision=None)
    name, _, revision = model_id.removeprefix(SCHEME).partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise HubError(f"'{model_id}' names no repository", hint="write hf://org/name or hf://org/name@revision")
    repository = Repository(
        name=name,
        revision=revision or None,
        patterns_for=functools.partial(_patterns_of_step, step),
        cache_dir=cache_dir,
        endpoint=endpoint,
        instead=INSTEAD_OF_MODEL,
    )
    folder = fetch_snapshot(repository)
    return ResolvedModel(folder=folder, revision=folder.name)


def _bundled(name: str) -> Path:
    names = sorted(folder.name for folder in BUNDLED.iterdir() if folder.is_dir())
    if name not in names:
        raise HubError(f"no policy '{name}' comes with the package", hint=f"available: {', '.join(names)}")
    return BUNDLED / name


def fetch_tokenizer(name: str, cache_dir: Path | None = None, *, endpoint: str | None = None) -> Path:
    """Get the tokenizer.json of the tokenizer that a checkpoint names ("t5-base"), as `resolve` gets a model.

    Raises:
        HubError: it cannot be had; the message says why and what to do.
    """
    repository = Repository(
        name=name if "/" in name else f"google-t5/{name}",  # where the hub has T5's old names now
        revision=None,
        patterns_for=_patterns_of_tokenizer,
        cache_dir=cache_dir,
        endpoint=endpoint,
        instead=INSTEAD_OF_TOKENIZER,
    )
    return fetch_snapshot(repository) / TOKENIZER_FILE


def _patterns_of_step(step: int | None, files: set[str]) -> list[str]:
    if missing := [name for name in MODEL_FILES if name not in files]:
        raise LookupError(f"is not a checkpoint of Octo: it has no {', '.join(missing)}")
    steps = sorted({int(match[1]) for file in files if (match := re.match(r"(\d+)/default/", file))})
    if not steps:
        raise LookupError("is not a checkpoint of Octo: it has no step's folder (such as 300000/default)")
    if step not in (None, *steps):
        raise LookupError(f"has no step {step}, only {', '.join(map(str, steps))}")
    tokenizer = [TOKENIZER_FILE] if TOKENIZER_FILE in files else []
    return [*MODEL_FILES, *tokenizer, f"{steps[-1] if step is None else step}/*"]


def _patterns_of_tokenizer(files: set[str]) -> list[str]:
    if TOKENIZER_FILE not in files:
        raise LookupError(f"has no {TOKENIZER_FILE}")
    return [TOKENIZER_FILE]
