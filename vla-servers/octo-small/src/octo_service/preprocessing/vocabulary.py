"""A vocabulary of whole words, for a text encoder that is trained from nothing on few instructions."""

import re
from collections.abc import Iterable

from octo_service.preprocessing.text import EOS, PAD

UNKNOWN = 2


def word_vocabulary(instructions: Iterable[str]) -> str:
    """Return the content of a tokenizer.json that knows every word of `instructions` in upper and lower case.

    Words are runs of letters and digits; what stands between them is dropped. A word that is not known is `<unk>`.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    words = sorted({word for text in instructions for word in re.findall(r"\w+", text.lower())})
    special = {"<pad>": PAD, "</s>": EOS, "<unk>": UNKNOWN}
    numbered = special | {word: number for number, word in enumerate(words, start=len(special))}
    tokenizer = Tokenizer(models.WordLevel(numbered, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\W+"), "removed")
    return tokenizer.to_str(pretty=True)
