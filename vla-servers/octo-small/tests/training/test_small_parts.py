"""Memory of a traced program, validation, progress, and what becomes of a task's words, each by itself."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from octo_service.model.architectures import ARCHITECTURES
from octo_service.training.instructions import let_text_encoder_train, trains_text_encoder
from octo_service.training.memory import _in_words, peak_bytes
from octo_service.training.validation import _key
from vla_server_base.commands.progress import phase, progress

KB = jax.ShapeDtypeStruct((256,), jnp.float32)


def peak(function: Any, *arguments: Any, donated: int = 0) -> int:
    """Return the peak in arrays of a kilobyte."""
    num_bytes = peak_bytes(jax.make_jaxpr(function)(*arguments).jaxpr, donated)
    assert num_bytes % 1024 == 0
    return num_bytes // 1024


def test_an_operation_needs_its_arguments_and_its_result():
    assert peak(jnp.sin, KB) == 2


def test_arguments_are_alive_until_the_end_unless_they_are_given_up():
    def chain(x: jax.Array) -> jax.Array:
        return jnp.sin(jnp.cos(jnp.tan(x)))

    assert peak(chain, KB) == 3
    assert peak(chain, KB, donated=1) == 2


def test_what_is_read_again_later_stays():
    def kept(x: jax.Array) -> jax.Array:
        y = jnp.sin(x)
        return jnp.cos(jnp.tan(y)) * y

    assert peak(kept, KB) == 4


def test_what_nothing_reads_dies_at_once():
    def unread(x: jax.Array) -> jax.Array:
        jnp.sin(x)
        jnp.cos(x)
        return jnp.tan(x)

    assert peak(unread, KB) == 2


def test_a_loop_needs_one_turn_of_its_body_at_a_time():
    def body(x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return jnp.sin(jnp.cos(jnp.tan(x))), None

    short, long = (peak(lambda x, length=length: jax.lax.scan(body, x, None, length)[0], KB) for length in (2, 200))
    assert short == long


@pytest.mark.parametrize(
    ("num_bytes", "words"), [(0, "0 MB"), (999_999_999, "1000 MB"), (10**9, "1.0 GB"), (12_340_000_000, "12.3 GB")]
)
def test_bytes_are_said_in_megabytes_and_from_a_billion_on_in_gigabytes(num_bytes: int, words: str):
    assert _in_words(num_bytes) == words


def test_a_text_encoder_is_trained_only_where_its_architecture_says_so():
    config = ARCHITECTURES["octo-tiny"].config()["model"]
    assert not trains_text_encoder(config)
    let_text_encoder_train(config)
    assert trains_text_encoder(config)


def test_a_sentence_embedding_has_no_text_encoder_to_train():
    config = {"task_tokenizers": {"language": {"name": "LanguageTokenizer", "kwargs": {}}}}
    let_text_encoder_train(config)
    assert not trains_text_encoder(config)


def test_progress_in_a_log_is_whole_lines(capsys: pytest.CaptureFixture):
    phase("loading")
    with progress(3, "training", "step", initial=1) as bar:
        bar.update(2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "loading"
    assert all("\r" not in line and line == line.strip() for line in lines)
    assert re.match(r"training: 3/3 steps \[", lines[-1])


def test_noise_of_validation_is_another_for_each_batch_and_never_a_runs():
    keys = {tuple(_key(number).tolist()) for number in range(5)}
    assert len(keys) == 5
    # A run's key begins with the upper half of its seed, which is zero for all that are typed.
    assert all(upper == 1 for upper, _ in keys)
    assert _key(0).dtype == np.uint32
