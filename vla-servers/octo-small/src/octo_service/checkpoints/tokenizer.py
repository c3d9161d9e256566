"""The tokenizer of a checkpoint: from its own vocabulary, or from the one that its config names."""

from pathlib import Path

from octo_service.checkpoints.checkpoint import Checkpoint
from octo_service.errors import TokenizerError
from octo_service.preprocessing.text import TextTokenizer, tokenizer_options
from octo_service.preprocessing.vocabulary_files import json_tokenizer, load_tokenizer


def checkpoint_tokenizer(checkpoint: Checkpoint, path: Path | None) -> TextTokenizer | None:
    """Return the tokenizer, None if the model takes no text; `path` is a vocabulary from elsewhere.

    Raises:
        TokenizerError: the vocabulary cannot be read, or both the checkpoint and the caller bring one.
    """
    options = tokenizer_options(checkpoint.config)
    if options is None:
        return None
    if checkpoint.vocabulary is None:
        return load_tokenizer(path, options)
    if path is not None:
        raise TokenizerError(
            f"the checkpoint has the vocabulary that its text encoder was trained with; {path} is a different one",
            hint="leave the tokenizer (OCTO_TOKENIZER) out",
        )
    return json_tokenizer(checkpoint.vocabulary, options)
