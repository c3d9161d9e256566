"""A vocabulary of T5's form that tests train for themselves: T5's own is not ours to ship."""

import io

import sentencepiece

SENTENCES = [
    "pick up the fork and put it in the drawer",
    "open the drawer",
    "move the pot to the left of the burner",
    "put the spoon on the towel",
    "close the fridge door and wipe the table with the sponge",
]


def train_vocabulary() -> bytes:
    """Train a vocabulary of T5's form: 0 padding, 1 end, 2 unknown, no beginning, sentinels outside of it."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=written,
        vocab_size=60,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return written.getvalue()
