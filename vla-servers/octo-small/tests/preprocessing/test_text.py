"""Token ids: the reference's own for 42 texts, and the same rules on a small vocabulary made here.

T5's vocabulary is not part of this repository. The golden tests find it through OCTO_T5_VOCABULARY (a folder
with spiece.model and tokenizer.json), or in shared/t5 beside the repository.
"""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tokenizers
from vocabulary import SENTENCES, train_vocabulary

from octo_service.errors import InputError, ModelConfigError, TokenizerError
from octo_service.preprocessing.text import ByteTokenizer, TextTokenizer, TokenizerOptions, tokenizer_options
from octo_service.preprocessing.vocabulary_files import load_tokenizer

GOLDENS = Path(__file__).parents[1] / "goldens" / "octo"
ROWS = json.loads((GOLDENS / "golden_tokens.json").read_text())["rows"]
REPOSITORY = Path(__file__).resolve().parents[4]
VOCABULARY = Path(os.environ.get("OCTO_T5_VOCABULARY", REPOSITORY.parent / "shared" / "t5"))


@pytest.fixture(scope="module", params=["spiece.model", "tokenizer.json"])
def t5(request: pytest.FixtureRequest) -> TextTokenizer:
    if not (VOCABULARY / request.param).is_file():
        pytest.skip(
            f"no {request.param} of T5 here: put it (the hub has it as google-t5/t5-base) into a folder and "
            "set OCTO_T5_VOCABULARY to that folder"
        )
    return load_tokenizer(VOCABULARY / request.param)


@pytest.mark.parametrize("row", ROWS, ids=[row["text"][:40] for row in ROWS])
def test_every_text_has_the_reference_s_ids(t5: TextTokenizer, row: dict):
    encoded = t5.encode([row["text"]])
    assert encoded["input_ids"].tolist() == [row["input_ids"]]
    assert encoded["attention_mask"].tolist() == [row["attention_mask"]]


def test_a_batch_is_the_same_as_its_texts_alone(t5: TextTokenizer):
    encoded = t5.encode([row["text"] for row in ROWS])
    assert encoded["input_ids"].dtype == encoded["attention_mask"].dtype == np.int64
    assert encoded["input_ids"].tolist() == [row["input_ids"] for row in ROWS]


def tokenizer_json(model: bytes) -> str:
    """Write the same vocabulary in the other form, as the hub's t5-base has it."""
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    vocabulary = [(pieces.id_to_piece(index), pieces.get_score(index)) for index in range(pieces.vocab_size())]
    sentinels = [f"<extra_id_{index}>" for index in reversed(range(100))]
    twin = tokenizers.Tokenizer(
        tokenizers.models.Unigram([*vocabulary, *((name, 0.0) for name in sentinels)], unk_id=2)
    )
    twin.normalizer = tokenizers.normalizers.NFKC()
    twin.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.Metaspace()]
    )
    twin.add_special_tokens(["<pad>", "</s>", "<unk>", *sentinels])
    twin.enable_truncation(4)
    twin.enable_padding(length=99)
    return twin.to_str()


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    (folder / "spiece.model").write_bytes(train_vocabulary())
    (folder / "tokenizer.json").write_text(tokenizer_json((folder / "spiece.model").read_bytes()))
    return folder


@pytest.fixture(scope="module", params=["spiece.model", "tokenizer.json", None])
def small(request: pytest.FixtureRequest, vocabularies: Path) -> TextTokenizer:
    return load_tokenizer(vocabularies / request.param if request.param else None)


def test_ids_end_with_one_and_are_padded_with_zeros(small: TextTokenizer):
    encoded = small.encode(["the", ""])
    lengths = encoded["attention_mask"].sum(axis=1)
    for ids, mask, length in zip(encoded["input_ids"], encoded["attention_mask"], lengths, strict=True):
        assert (ids.shape, mask.tolist()) == ((16,), [1] * length + [0] * (16 - length))
        assert ids[length - 1] == 1
        assert (ids[: length - 1] > 2).all()
        assert not ids[length:].any()
    assert lengths[1] == 1


def test_a_long_text_is_cut_and_keeps_its_end(small: TextTokenizer):
    encoded = small.encode(["pick up the fork and put it in the drawer " * 5])
    assert encoded["input_ids"].shape == (1, 16)
    assert encoded["input_ids"][0, -1] == 1
    assert encoded["attention_mask"].all()


def test_no_texts_give_no_rows(small: TextTokenizer):
    assert small.encode([])["input_ids"].shape == (0, 16)


def test_half_a_surrogate_pair_is_no_text(small: TextTokenizer):
    with pytest.raises(InputError, match="is not Unicode text"):
        small.encode(["pick up \ud83c"])


@pytest.mark.parametrize(
    "text",
    [*SENTENCES, "", " ", "fork", "  the   drawer ", "the\tdrawer\n", "the 勺子", "<extra_id_3>", "a </s>b"],
)
def test_both_forms_of_a_vocabulary_agree(vocabularies: Path, text: str):
    by_pieces = load_tokenizer(vocabularies / "spiece.model").encode([text])
    by_json = load_tokenizer(vocabularies / "tokenizer.json").encode([text])
    assert by_pieces["input_ids"].tolist() == by_json["input_ids"].tolist()


@pytest.mark.parametrize("form", ["spiece.model", "tokenizer.json"])
def test_special_tokens_written_out_stand_for_themselves(vocabularies: Path, form: str):
    tokenizer = load_tokenizer(vocabularies / form)
    size = sentencepiece.SentencePieceProcessor(model_file=str(vocabularies / "spiece.model")).vocab_size()
    text = "<pad><unk></s><extra_id_0><extra_id_99>"
    assert tokenizer.encode([text])["input_ids"][0, :6].tolist() == [0, 2, 1, size + 99, size, 1]
    drawer = tokenizer.encode(["drawer"])["input_ids"][0].tolist()
    assert tokenizer.encode(["<pad>drawer"])["input_ids"][0, 1:].tolist() == drawer[:-1]


def test_a_folder_of_vocabularies_will_do(vocabularies: Path):
    assert load_tokenizer(vocabularies).encode(["fork"])["input_ids"].shape == (1, 16)


def test_bytes_need_no_vocabulary():
    encoded = ByteTokenizer(TokenizerOptions(max_length=6)).encode(["aé", "abcdefgh"])
    assert encoded["input_ids"].tolist() == [[100, 198, 172, 1, 0, 0], [100, 101, 102, 103, 104, 1]]


class TestOptions:
    def config(self, **kwargs: object) -> dict:
        return {"text_processor": {"name": "HFTokenizer", "kwargs": {"tokenizer_name": "t5-base", **kwargs}}}

    def test_those_of_the_released_checkpoints(self):
        config = json.loads((GOLDENS / "tiny_ckpt" / "config.json").read_text())
        assert tokenizer_options(config) == TokenizerOptions(name="t5-base", max_length=16)

    def test_without_any_the_reference_s_defaults_hold(self):
        assert tokenizer_options(self.config()) == TokenizerOptions(max_length=64)

    def test_a_model_without_text_has_none(self):
        assert tokenizer_options({"text_processor": None}) is None

    def test_padding_to_the_longest_and_no_cutting(self):
        asked = self.config(tokenizer_kwargs={"max_length": 4, "padding": True, "truncation": False})
        options = tokenizer_options(asked)
        assert options is not None
        tokenizer = ByteTokenizer(options)
        assert tokenizer.encode(["a", "ab"])["input_ids"].tolist() == [[100, 1, 0], [100, 101, 1]]
        assert tokenizer.encode(["abcdef"])["attention_mask"].sum() == 7

    @pytest.mark.parametrize(
        "config",
        [
            {"text_processor": {"name": "MuseEmbedding", "kwargs": {}}},
            {"text_processor": {"name": "HFTokenizer", "kwargs": {"encode_with_model": True}}},
            {"text_processor": {"name": "HFTokenizer", "kwargs": {"tokenizer_kwargs": {"padding": "left"}}}},
        ],
    )
    def test_what_is_not_known_is_refused(self, config: dict):
        with pytest.raises(ModelConfigError, match=r"config.json asks for"):
            tokenizer_options(config)


class TestDamage:
    def test_a_missing_vocabulary_is_said_so(self, tmp_path: Path):
        for path in (tmp_path, tmp_path / "spiece.model"):
            with pytest.raises(TokenizerError, match=r"there is no vocabulary .* set OCTO_TOKENIZER"):
                load_tokenizer(path)

    @pytest.mark.parametrize("name", ["spiece.model", "tokenizer.json", "vocabulary.txt"])
    @pytest.mark.parametrize("content", [b"", b"noise \xff", b"{}"])
    def test_a_file_that_is_no_vocabulary_is_said_so(self, tmp_path: Path, name: str, content: bytes):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TokenizerError, match=re.escape(f"{name} is not a vocabulary of T5")):
            load_tokenizer(tmp_path / name)

    def test_a_vocabulary_without_t5_s_special_tokens_is_refused(self, tmp_path: Path):
        other = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
        other.save(str(tmp_path / "tokenizer.json"))
        with pytest.raises(TokenizerError, match=r"it has no <pad> or </s>"):
            load_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("form", ["spiece.model", "tokenizer.json"])
def test_what_a_vocabulary_of_pieces_does_not_cover_is_named(vocabularies: Path, form: str):
    small = load_tokenizer(vocabularies / form)
    assert small.unknown_words("open the drawer") == ()
    assert small.unknown_words("open the \u62bd\u5c49 drawer") == ("\u62bd\u5c49",)


def test_bytes_cover_everything():
    assert load_tokenizer(None).unknown_words("open the \u62bd\u5c49") == ()
