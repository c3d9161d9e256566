"""A tokenizer.json that knows the texts of the goldens, by the ids that T5's own vocabulary gave them.

T5's vocabulary is not ours to ship: here each text is replaced as a whole by characters of a private plane, one an id.
"""

from collections.abc import Mapping, Sequence

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

PRIVATE = 0xF0000


def tokenizer_json(known: Mapping[str, Sequence[int]]) -> str:
    numbers = sorted({number for ids in known.values() for number in ids} - {0, 1, 2})
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, **{chr(PRIVATE + number): number for number in numbers}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    replaced = [
        normalizers.Replace(Regex(f"^{_escaped(text)}$"), "".join(chr(PRIVATE + number) for number in ids))
        for text, ids in known.items()
        if text
    ]
    tokenizer.normalizer = normalizers.Sequence(replaced)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return tokenizer.to_str()


def _escaped(text: str) -> str:
    return "".join(character if character.isalnum() else f"\\x{{{ord(character):x}}}" for character in text)
