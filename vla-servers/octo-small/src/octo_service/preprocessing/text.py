"""Instructions to T5 token ids, as the reference's `HFTokenizer` makes them.

Whatever the vocabulary's form, the rule is the same: pieces, cut to leave room for `</s>`, `</s>`, padding.
"""

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from octo_service.errors import ConfigError, InputError, TokenizerError

# Sentinels of T5's span corruption, <extra_id_0> to <extra_id_99>, numbered downwards above the pieces.
NUM_SENTINELS = 100
# T5's first three ids, which the byte tokenizer shares.
PAD, EOS, NUM_RESERVED = 0, 1, 3
SET_TOKENIZER = "set OCTO_TOKENIZER to T5's spiece.model or tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class TokenizerOptions:
    """Which vocabulary a checkpoint was trained with, and how rows of ids are formed.

    Rows are padded to `max_length`, or to the longest of the batch.
    """

    name: str = "t5-base"
    max_length: int = 16
    padding: Literal["max_length", "longest"] = "max_length"
    truncation: bool = True


DEFAULT_OPTIONS = TokenizerOptions()


class TextTokenizer:
    """Encodes instructions; `pieces_of` gives the ids of one text without `</s>`."""

    def __init__(
        self,
        pieces_of: Callable[[str], list[int]],
        options: TokenizerOptions,
        *,
        pad: int = PAD,
        eos: int = EOS,
        unknown: int | None = None,
    ):
        self.options = options
        self._pieces_of, self._pad, self._eos, self._unknown = pieces_of, pad, eos, unknown

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Return the words of a text that the vocabulary does not cover, in their order, each once."""
        encodable = text.encode(errors="ignore").decode()
        words = dict.fromkeys(word.strip(string.punctuation) for word in encodable.split())
        return tuple(word for word in words if self._unknown is not None and self._unknown in self._pieces_of(word))

    def encode(self, texts: Sequence[str]) -> dict[str, Int64[np.ndarray, "batch max_length"]]:
        """Return `input_ids` and `attention_mask`: 1 where there is a token, 0 where there is padding.

        Raises:
            InputError: a text is not Unicode (half of a surrogate pair, which JSON can carry).
        """
        rows = [self._ids_of(text) for text in texts]
        longest = max(map(len, rows), default=0)
        width = longest if self.options.padding == "longest" else max(longest, self.options.max_length)
        input_ids = np.full((len(rows), width), self._pad, np.int64)
        attention_mask = np.zeros((len(rows), width), np.int64)
        for index, row in enumerate(rows):
            input_ids[index, : len(row)] = row
            attention_mask[index, : len(row)] = 1
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def _ids_of(self, text: str) -> list[int]:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"instruction {text[:80]!r} is not Unicode text ({error.reason})",
                hint="send whole characters",
            ) from error
        pieces = self._pieces_of(text)
        return [*(pieces[: self.options.max_length - 1] if self.options.truncation else pieces), self._eos]


class ByteTokenizer(TextTokenizer):
    """Encodes UTF-8 bytes, for models with random weights: it needs no vocabulary."""

    def __init__(self, options: TokenizerOptions):
        super().__init__(lambda text: [byte + NUM_RESERVED for byte in text.encode()], options)


def tokenizer_options(config: Mapping[str, Any]) -> TokenizerOptions | None:
    """Read a checkpoint's config.json; None where the model takes no text.

    Raises:
        ConfigError: the text processor is not the reference's tokenizer.
    """
    processor = config.get("text_processor")
    if processor is None:
        return None
    kwargs = processor.get("kwargs", {})
    if processor.get("name") != "HFTokenizer" or kwargs.get("encode_with_model"):
        raise ConfigError(
            f"config.json asks for the text processor '{processor.get('name')}' with {kwargs}",
            hint="serve a checkpoint with HFTokenizer, without encode_with_model",
        )
    # The defaults are those of the reference's HFTokenizer.
    asked = {
        "max_length": 64,
        "padding": "max_length",
        "truncation": True,
        **(kwargs.get("tokenizer_kwargs") or {}),
    }
    padding = "longest" if asked["padding"] is True else asked["padding"]
    if padding not in ("max_length", "longest") or not isinstance(asked["truncation"], bool):
        raise ConfigError(
            f"config.json asks for padding={asked['padding']!r} and truncation={asked['truncation']!r}",
            hint="padding is 'max_length' or 'longest', truncation true or false",
        )
    return TokenizerOptions(
        name=kwargs.get("tokenizer_name", "t5-base"),
        max_length=asked["max_length"],
        padding=padding,
        truncation=asked["truncation"],
    )


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
