"""Instructions to T5 token ids, as the reference's `HFTokenizer` makes them.

Whatever the vocabulary's form, the rule is the same: pieces, cut to leave room for `</s>`, `</s>`, padding.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from octo_service.errors import InputError, ModelConfigError

# T5's first three ids, which the byte tokenizer shares.
PAD, EOS, NUM_RESERVED = 0, 1, 3


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
        ModelConfigError: the text processor is not the reference's tokenizer.
    """
    processor = config.get("text_processor")
    if processor is None:
        return None
    kwargs = processor.get("kwargs", {})
    if processor.get("name") != "HFTokenizer" or kwargs.get("encode_with_model"):
        raise ModelConfigError(
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
        raise ModelConfigError(
            f"config.json asks for padding={asked['padding']!r} and truncation={asked['truncation']!r}",
            hint="use padding 'max_length' or 'longest', and truncation true or false",
        )
    return TokenizerOptions(
        name=kwargs.get("tokenizer_name", "t5-base"),
        max_length=asked["max_length"],
        padding=padding,
        truncation=asked["truncation"],
    )
