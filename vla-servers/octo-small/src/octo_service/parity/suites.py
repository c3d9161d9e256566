"""All comparisons of a folder of goldens."""

from collections.abc import Collection, Iterator
from pathlib import Path

from octo_service.errors import InputError
from octo_service.parity.comparison import compare
from octo_service.parity.components import compare_encoders, compare_resize, compare_tokens
from octo_service.parity.episodes import compare_closed_loop
from octo_service.parity.goldens import golden_sets
from octo_service.parity.measures import Comparison
from octo_service.preprocessing.text import TokenizerOptions
from octo_service.preprocessing.vocabulary_files import load_tokenizer


def compare_all(goldens: Path, only: Collection[str] = (), vocabulary: Path | None = None) -> Iterator[Comparison]:
    """Compare every set of a folder of goldens, or those named; tokenizing too if T5's vocabulary is available.

    Raises:
        InputError: there are no goldens in the folder, or a set is not known.
    """
    if not (goldens / "octo").is_dir():
        raise InputError(f"there are no goldens in {goldens}", hint="they are in tests/goldens of the source")
    tokenizer = load_tokenizer(vocabulary, TokenizerOptions()) if vocabulary else None
    sets = {name: lambda load=load: compare(load()) for name, load in golden_sets(goldens, tokenizer).items()}
    sets |= {
        "closed_loop": lambda: compare_closed_loop(goldens),
        "resize": lambda: compare_resize(goldens),
        "encoders": lambda: compare_encoders(goldens),
        "tokens": lambda: compare_tokens(goldens, tokenizer),
    }
    if unknown := set(only) - set(sets):
        raise InputError(f"no goldens are named {', '.join(sorted(unknown))}", hint=f"known: {', '.join(sets)}")
    for name in only or sets:
        yield from sets[name]()
