"""Hashes of parameters, damaged files, and the checks that a checkpoint has to pass; saving step by step."""

from pathlib import Path

import numpy as np
import pytest

from octo_service.checkpoints.checkpoint import Checkpoint, steps_in
from octo_service.checkpoints.checks import check_finite, check_params
from octo_service.checkpoints.saving import save_checkpoint
from octo_service.checkpoints.stored_params import hash_of, load_params, read_file
from octo_service.errors import CheckpointError

PARAMS = {"a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "b/bias": np.ones(2, np.float32)}


def checkpoint(step: int = 3, **changes) -> Checkpoint:
    fields = {
        "config": {"model": {}},
        "params": PARAMS,
        "dataset_statistics": {"data": {"action": {"mean": np.zeros(2)}}},
        "example_batch": {"observation": {}, "task": {}},
        "params_hash": hash_of(PARAMS),
        "statistics_hash": "",
    }
    return Checkpoint(step=step, **{**fields, **changes})


def test_a_hash_ignores_the_order_and_the_layout_of_parameters():
    turned = {"b/bias": PARAMS["b/bias"], "a/kernel": np.asfortranarray(PARAMS["a/kernel"])}
    assert hash_of(turned) == hash_of(PARAMS)


@pytest.mark.parametrize(
    "changed",
    [
        {"a/kernel": PARAMS["a/kernel"] + 1},
        {"a/kernel": PARAMS["a/kernel"].reshape(3, 2)},
        {"a/kernel": PARAMS["a/kernel"].astype(np.float64)},
        {"c/bias": PARAMS["b/bias"]},
    ],
)
def test_a_hash_tells_numbers_shapes_types_and_paths_apart(changed: dict):
    assert hash_of(PARAMS | changed) != hash_of(PARAMS)


@pytest.mark.parametrize("form", ["reference", "safetensors"])
@pytest.mark.parametrize("cached", [True, False])
def test_every_form_is_loaded_with_one_hash(form, cached: bool, tmp_path: Path):
    save_checkpoint(tmp_path / "saved", checkpoint(), form)
    params, params_hash = load_params(tmp_path / "saved" / "3" / "default", tmp_path / "cache" if cached else None)
    assert params_hash == hash_of(PARAMS)
    assert list(params) == sorted(PARAMS)
    for path, leaf in PARAMS.items():
        np.testing.assert_array_equal(params[path], leaf)
        assert not params[path].flags.writeable


def test_only_what_is_not_mapped_as_it_is_is_converted(tmp_path: Path):
    save_checkpoint(tmp_path / "saved", checkpoint(), "safetensors")
    load_params(tmp_path / "saved" / "3" / "default", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_step_that_is_only_half_written_is_no_step(tmp_path: Path):
    (tmp_path / "4.unfinished" / "default").mkdir(parents=True)
    save_checkpoint(tmp_path, checkpoint(4))
    assert steps_in(tmp_path) == {4: tmp_path / "4"}
    assert not (tmp_path / "4.unfinished").exists()


def test_a_file_is_not_a_step(tmp_path: Path):
    (tmp_path / "5").write_text("")
    (tmp_path / "episodes").mkdir()
    assert steps_in(tmp_path) == steps_in(tmp_path / "nowhere") == {}


def test_a_step_is_written_once(tmp_path: Path):
    save_checkpoint(tmp_path, checkpoint())
    with pytest.raises(CheckpointError, match="already holds step 3"):
        save_checkpoint(tmp_path, checkpoint(params={}))


def test_a_folder_without_parameters_is_refused_by_the_file_it_lacks(tmp_path: Path):
    with pytest.raises(CheckpointError, match="checkpoint is missing"):
        load_params(tmp_path, None)


@pytest.mark.parametrize(("content", "message"), [(None, "is missing"), (b"", "is damaged"), (b"x", "is damaged")])
def test_a_file_that_cannot_be_decoded_is_named(content: bytes | None, message: str, tmp_path: Path):
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"file {message}"):
        read_file(tmp_path / "file", lambda view: int(bytes(view)))


def test_parameters_that_are_as_expected_pass():
    check_params(PARAMS, {"a/kernel": (2, 3), "b/bias": (2,)})
    check_params({"a/kernel": (2, 3)}, {"a/kernel": (2, 3)})


def test_every_kind_of_difference_is_counted_and_its_first_are_named():
    expected = {"a/kernel": (3, 2), **{f"c{number}": (1,) for number in range(5)}}
    with pytest.raises(CheckpointError) as refused:
        check_params(PARAMS, expected)
    assert "5 missing (c0, c1, c2, ...)" in str(refused.value)
    assert "1 unknown to the model (b/bias)" in str(refused.value)
    assert "1 of another shape (a/kernel (2, 3) instead of (3, 2))" in str(refused.value)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_found_wherever_it_is(number: float):
    kernel = PARAMS["a/kernel"].copy()
    kernel[1, 1] = number
    with pytest.raises(CheckpointError, match=r"1 of the checkpoint's parameters .*a/kernel"):
        check_finite(PARAMS | {"a/kernel": kernel})


def test_large_numbers_of_either_sign_are_finite():
    check_finite({"a": np.array([3e38, 3e38, -3e38, -3e38], np.float32)})
