"""Tokenizers from the files of T5's vocabulary: spiece.model or tokenizer.json."""

import re
from pathlib import Path

from octo_service.errors import TokenizerError
from octo_service.preprocessing.text import DEFAULT_OPTIONS, ByteTokenizer, TextTokenizer, TokenizerOptions

SET_TOKENIZER = "set OCTO_TOKENIZER to T5's spiece.model or tokenizer.json"

# Sentinels of T5's span corruption, <extra_id_0> to <extra_id_99>, numbered downwards above the pieces.
NUM_SENTINELS = 100


def load_tokenizer(path: Path | None, options: TokenizerOptions = DEFAULT_OPTIONS) -> TextTokenizer:
    """Load a spiece.model or a tokenizer.json, or the folder of one; None gives the byte tokenizer.

    Raises:
        TokenizerError: there is no such file, or it is neither of the two.
    """
    if path is None:
        return ByteTokenizer(options)
    candidates = [path / "tokenizer.json", path / "spiece.model"] if path.is_dir() else [path]
    for file in candidates:
        if file.is_file():
            return _load_json(file, options) if file.suffix == ".json" else _load_sentencepiece(file, options)
    raise TokenizerError(
        f"there is no vocabulary {path}",
        hint="set OCTO_TOKENIZER to T5's spiece.model or tokenizer.json, or to the folder of one",
    )


def _load_sentencepiece(path: Path, options: TokenizerOptions) -> TextTokenizer:
    import sentencepiece  # of the two libraries only one is ever needed

    try:
        model = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
    except (RuntimeError, OSError) as error:
        raise _not_a_vocabulary(path, error) from error
    pad, eos, unknown, num_pieces = model.pad_id(), model.eos_id(), model.unk_id(), model.vocab_size()
    if min(pad, eos, unknown) < 0:
        raise _not_a_vocabulary(path, "it has no padding or end-of-sentence token")
    special = {model.id_to_piece(index): index for index in (pad, eos, unknown)} | {
        f"<extra_id_{index}>": num_pieces + NUM_SENTINELS - 1 - index for index in range(NUM_SENTINELS)
    }
    # A special token written out in a text stands for itself; what is on either side is encoded on its own.
    split = re.compile(f"({'|'.join(map(re.escape, special))})").split

    def pieces_of(text: str) -> list[int]:
        parts = [[special[part]] if part in special else model.encode(part) for part in split(text)]
        return [piece for part in parts for piece in part]

    return TextTokenizer(pieces_of, options, pad=pad, eos=eos, unknown=unknown)


def _load_json(path: Path, options: TokenizerOptions) -> TextTokenizer:
    try:
        return json_tokenizer(path.read_text(encoding="utf-8"), options)
    except TokenizerError as error:
        raise _not_a_vocabulary(path, error.message) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _not_a_vocabulary(path, error) from error


def json_tokenizer(content: str, options: TokenizerOptions = DEFAULT_OPTIONS) -> TextTokenizer:
    """Make the tokenizer that the content of a tokenizer.json describes.

    Raises:
        TokenizerError: it is not a tokenizer.json, or it has no <pad> or </s>.
    """
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # the library raises nothing narrower
        raise TokenizerError(f"it is not a tokenizer.json: {str(error)[:200]}", hint=SET_TOKENIZER) from error
    pad, eos, unknown = map(tokenizer.token_to_id, ("<pad>", "</s>", "<unk>"))
    if pad is None or eos is None:
        raise TokenizerError("it has no <pad> or </s>", hint=SET_TOKENIZER)
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def pieces_of(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    return TextTokenizer(pieces_of, options, pad=pad, eos=eos, unknown=unknown)


def _not_a_vocabulary(path: Path, reason: object) -> TokenizerError:
    return TokenizerError(f"{path} is not a vocabulary of T5 ({str(reason)[:200]})", hint=SET_TOKENIZER)
