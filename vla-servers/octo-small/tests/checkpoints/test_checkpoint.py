"""Checkpoint folders: every form that the reference and orbax write, the memory-mapped copy, and damage.

`goldens/orbax` holds one small tree as orbax-checkpoint 0.4.4 stores it parameter by parameter (as zarr
folders, and in OCDBT; both with a `checkpoint` full of placeholders), and `chunked.msgpack`, written by flax
0.7.5 with its limit of 2**30 bytes lowered to 1000.
"""

import dataclasses
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import msgpack
import numpy as np
import pytest
from safetensors.numpy import load_file

from octo_service.checkpoints.checkpoint import load_checkpoint
from octo_service.checkpoints.checks import check_finite, check_params
from octo_service.checkpoints.flax_msgpack import read_tree, write_tree
from octo_service.checkpoints.saving import save_checkpoint
from octo_service.checkpoints.stored_params import load_params
from octo_service.checkpoints.weight_file import write_weights
from octo_service.errors import CheckpointError

GOLDENS = Path(__file__).parents[1] / "goldens"
TINY, TINY_OCDBT = GOLDENS / "octo" / "tiny_ckpt", GOLDENS / "octo" / "tiny_ckpt_ocdbt"
# The fingerprints that the goldens' own index gives.
FINGERPRINTS = {
    TINY: "070e020a8cb358e7cfe5e596017f74ba9a8512bb06d246037a042470aa171895",
    TINY_OCDBT: "070e020a8cb358e7cfe5e596017f74ba9a8512bb06d246037a042470aa171895",
    GOLDENS / "variants/aloha_l1/ckpt": "e839f4ad236b7e877edb34872516cb72dd3d79e49f06c2d3030d72cbe57bc062",
    GOLDENS / "variants/discrete/ckpt": "811b30bb9344869e32eace5ad061d3496efe47bcb56803450c930da26093586a",
    GOLDENS / "variants/discrete_map/ckpt": "6ca37f652a1d3a99f7259a529555accd7bd507498ca53830494fab516ec55637",
    GOLDENS / "variants/l1_map_tokenlearner/ckpt": "6919e2d17b4b8332410818121b39142a0886510ee70b24b1cc95820fe80f68ae",
    GOLDENS / "variants/mse_map_obs/ckpt": "9aafd32d891d94e1cf9dbd29c4650e02ee0445aac18d4a03fb541afa8b4cd2d8",
    GOLDENS / "variants/v1_0/ckpt": "b732d1ae79c9fd0a69f6b17212bde55bee87be95a4994236f0f3f617073398d2",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the tiny checkpoint to where it may be changed."""
    return shutil.copytree(TINY, tmp_path / "checkpoint")


def complaint(load: Callable[[], object]) -> str:
    """Return what loading complains about, which is always one line."""
    with pytest.raises(CheckpointError) as caught:
        load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestForms:
    @pytest.mark.parametrize("source", FINGERPRINTS, ids=lambda path: path.relative_to(GOLDENS).as_posix())
    def test_every_golden_checkpoint_has_the_parameters_it_should(self, source: Path, tmp_path: Path):
        assert load_checkpoint(source).params_hash == FINGERPRINTS[source]
        assert load_checkpoint(source, cache_dir=tmp_path).params_hash == FINGERPRINTS[source]

    def test_parameters_are_keyed_by_their_path_and_read_only(self):
        params = load_checkpoint(TINY).params
        bias = params["octo_transformer/obs_primary_projection/bias"]
        assert (bias.shape, bias.dtype) == ((64,), np.float32)
        assert not any(array.flags.writeable for array in params.values())

    @pytest.mark.parametrize("form", ["zarr", "ocdbt"])
    def test_parameters_that_are_only_named_are_read_from_where_they_are(self, form: str, tmp_path: Path):
        item = GOLDENS / "orbax" / form / "7" / "default"
        for params, _ in (load_params(item, None), load_params(item, tmp_path), load_params(item, tmp_path)):
            assert params["octo_transformer/projection/kernel"].tolist() == [[0, 1, 2], [3, 4, 5]]
            assert params["octo_transformer/projection/bias"].dtype == ml_dtypes.bfloat16
            assert params["heads_action/scale"] == 2.5
            assert params["octo_transformer/block/0/kernel"].shape == (4, 3, 2)

    @pytest.mark.parametrize("form", ["zarr", "ocdbt"])
    def test_stored_parameters_need_neither_metadata_nor_placeholders(self, form: str, tmp_path: Path):
        item = shutil.copytree(GOLDENS / "orbax" / form / "7" / "default", tmp_path / "default")
        expected = load_params(item, None)[1]
        (item / "_METADATA").unlink()
        (item / "checkpoint").unlink()
        assert load_params(item, None)[1] == expected

    def test_a_placeholder_for_nothing_is_named(self, tmp_path: Path):
        item = shutil.copytree(GOLDENS / "orbax" / "zarr" / "7" / "default", tmp_path / "default")
        shutil.rmtree(item / "heads_action.scale")
        assert "not stored there (heads_action.scale)" in complaint(lambda: load_params(item, None))

    def test_metadata_beside_the_parameters_changes_nothing(self, folder: Path):
        (folder / "300000/default/_METADATA").unlink()
        assert load_checkpoint(folder).params_hash == FINGERPRINTS[TINY]

    def test_ocdbt_without_tensorstore_says_how_to_install_it(self):
        script = (
            "import sys; sys.modules['tensorstore'] = None\n"
            "from pathlib import Path; from octo_service.checkpoints.checkpoint import load_checkpoint\n"
            "load_checkpoint(Path(sys.argv[1]))"
        )
        command = [sys.executable, "-c", script, str(TINY_OCDBT)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert "uv sync --extra ocdbt" in ended.stderr.splitlines()[-1]


class TestSteps:
    @pytest.fixture
    def steps(self, folder: Path) -> Path:
        """Make three steps; an unfinished one, as orbax leaves it, is none."""
        for step in ("9", "20000", "400000.orbax-checkpoint-tmp-1"):
            shutil.copytree(folder / "300000", folder / step)
        save = {"heads_action/scale": np.array([9], np.float32)}
        with (folder / "9/default/checkpoint").open("wb") as file:
            write_tree(file, save)
        return folder

    def test_the_latest_step_is_loaded(self, steps: Path):
        assert load_checkpoint(steps).step == 300000

    def test_a_step_that_is_asked_for_is_loaded(self, steps: Path, tmp_path: Path):
        load_checkpoint(steps, cache_dir=tmp_path)
        loaded = load_checkpoint(steps, step=9, cache_dir=tmp_path)
        assert (loaded.step, list(loaded.params)) == (9, ["heads_action/scale"])

    def test_a_step_that_is_not_there_is_refused_with_those_that_are(self, steps: Path):
        assert "no step 7; it holds: 9, 20000, 300000" in complaint(lambda: load_checkpoint(steps, step=7))

    def test_one_step_s_own_folder_can_be_given(self, steps: Path):
        assert load_checkpoint(steps / "20000").step == 20000
        assert "not of step 9" in complaint(lambda: load_checkpoint(steps / "20000", step=9))

    def test_a_folder_without_steps_is_said_so(self, folder: Path):
        shutil.rmtree(folder / "300000")
        assert "holds no step's folder" in complaint(lambda: load_checkpoint(folder))

    def test_a_folder_that_is_not_there_is_said_so(self, tmp_path: Path):
        assert "there is no checkpoint folder" in complaint(lambda: load_checkpoint(tmp_path / "nowhere"))


class TestOldCheckpoints:
    def test_the_names_of_1_0_become_those_of_1_5(self):
        old = load_checkpoint(GOLDENS / "variants/v1_0/ckpt")
        head = old.config["model"]["heads"]["action"]["kwargs"]
        assert (head["action_horizon"], "pred_horizon" in head) == (4, False)
        assert {"task", "observation"} < set(old.example_batch)
        assert "tasks" not in old.example_batch
        observation = old.example_batch["observation"]
        np.testing.assert_array_equal(observation["timestep_pad_mask"], observation["pad_mask"])

    def test_statistics_are_arrays_as_in_the_reference(self):
        statistics = load_checkpoint(TINY).dataset_statistics["bridge_dataset"]
        assert statistics["action"]["mask"].tolist() == [True] * 6 + [False]
        assert statistics["num_trajectories"] == np.array(60064)

    def test_the_statistics_hash_depends_on_the_numbers_only(self, folder: Path):
        before = load_checkpoint(folder).statistics_hash
        statistics = json.loads((folder / "dataset_statistics.json").read_text())
        (folder / "dataset_statistics.json").write_text(json.dumps(statistics, indent=4))
        assert load_checkpoint(folder).statistics_hash == before
        statistics["bridge_dataset"]["action"]["mean"][0] += 1e-6
        (folder / "dataset_statistics.json").write_text(json.dumps(statistics))
        assert load_checkpoint(folder).statistics_hash != before


class TestConvertedCopy:
    def converted(self, cache: Path) -> Path:
        (file,) = (cache / "checkpoints").iterdir()
        return file

    def test_it_is_written_once_and_is_plain_safetensors(self, tmp_path: Path):
        params = load_checkpoint(TINY, cache_dir=tmp_path).params
        written = self.converted(tmp_path).stat().st_mtime_ns
        for path, array in load_file(self.converted(tmp_path)).items():
            np.testing.assert_array_equal(array, params[path])
        load_checkpoint(TINY, cache_dir=tmp_path)
        assert self.converted(tmp_path).stat().st_mtime_ns == written

    def test_arrays_are_views_on_the_file_and_stay_on_disk_until_read(self, tmp_path: Path):
        item = tmp_path / "7" / "default"
        item.mkdir(parents=True)
        with (item / "checkpoint").open("wb") as file:
            write_tree(file, {"embedding": np.ones((32128, 256), np.float32), "bias": np.ones(3, np.float32)})
        load_params(item, tmp_path)
        params = load_params(item, tmp_path)[0]
        assert params["bias"].tolist() == [1, 1, 1]
        assert resident_kb(self.converted(tmp_path)) < 1000
        assert params["embedding"].sum() == 32128 * 256
        assert resident_kb(self.converted(tmp_path)) > 32000

    def test_bfloat16_stays_bfloat16(self, tmp_path: Path):
        params = {"a/half": np.arange(7).astype(ml_dtypes.bfloat16), "a/none": np.zeros((0, 3), np.float32)}
        save_tiny(tmp_path / "saved", params)
        for cache_dir in (None, tmp_path, tmp_path):
            loaded = load_checkpoint(tmp_path / "saved", cache_dir=cache_dir).params
            assert [loaded[path].dtype for path in params] == [ml_dtypes.bfloat16, np.float32]
            np.testing.assert_array_equal(loaded["a/half"], params["a/half"])

    def test_a_changed_checkpoint_is_converted_again(self, tmp_path: Path):
        for value in (1, 2):
            shutil.rmtree(tmp_path / "saved", ignore_errors=True)
            save_tiny(tmp_path / "saved", {"a": np.array([value], np.float32)})
            assert load_checkpoint(tmp_path / "saved", cache_dir=tmp_path).params["a"] == value

    @pytest.mark.parametrize("damage", ["empty", "header cut", "cut", "no header", "other metadata"])
    def test_a_damaged_copy_is_made_again(self, damage: str, tmp_path: Path):
        load_checkpoint(TINY, cache_dir=tmp_path)
        file = self.converted(tmp_path)
        whole = file.read_bytes()
        damaged = {
            "empty": b"",
            "header cut": whole[:100],
            "cut": whole[:-1],
            "no header": bytes(len(whole)),
            "other metadata": whole.replace(b'"params_hash"', b'"params_hush"'),
        }
        file.write_bytes(damaged[damage])
        assert load_checkpoint(TINY, cache_dir=tmp_path).params_hash == FINGERPRINTS[TINY]
        assert file.read_bytes() == whole

    def test_starts_at_the_same_time_do_not_disturb_one_another(self, tmp_path: Path):
        script = (
            "import sys; from pathlib import Path; from octo_service.checkpoints.checkpoint import load_checkpoint\n"
            "from octo_service.checkpoints.stored_params import hash_of\n"
            "print(hash_of(load_checkpoint(Path(sys.argv[1]), cache_dir=Path(sys.argv[2])).params))"
        )
        command = [sys.executable, "-c", script, str(TINY), str(tmp_path)]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        assert {process.communicate(timeout=60)[0].strip() for process in running} == {FINGERPRINTS[TINY]}
        assert self.converted(tmp_path).suffix == ".safetensors"

    def test_a_cache_that_cannot_be_written_costs_only_time(self, tmp_path: Path, caplog: pytest.LogCaptureFixture):
        (tmp_path / "checkpoints").write_text("in the way")
        assert load_checkpoint(TINY, cache_dir=tmp_path).params_hash == FINGERPRINTS[TINY]
        assert "cannot keep converted parameters" in caplog.text


def resident_kb(file: Path) -> int:
    """Count how much of a mapped file this process has in memory."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    start = next(index for index, line in enumerate(lines) if line.endswith(str(file)))
    return int(next(line for line in lines[start:] if line.startswith("Rss:")).split()[1])


def save_tiny(folder: Path, params: dict[str, np.ndarray], step: int = 1) -> None:
    save_checkpoint(folder, dataclasses.replace(load_checkpoint(TINY), step=step, params=params))


class TestSafetensors:
    def test_parameters_in_one_are_mapped_where_they_are(self, tmp_path: Path):
        tiny = load_checkpoint(TINY)
        save_checkpoint(tmp_path, tiny)
        item = tmp_path / str(tiny.step) / "default"
        (item / "checkpoint").unlink()
        halves = {path: leaf.astype(np.float16) for path, leaf in tiny.params.items()}
        write_weights(item / "params.safetensors", halves, {})
        loaded = load_checkpoint(tmp_path, cache_dir=tmp_path / "cache")
        assert loaded.params.keys() == tiny.params.keys()
        for path, leaf in loaded.params.items():
            np.testing.assert_array_equal(leaf, halves[path])
        assert not (tmp_path / "cache").exists()

    def test_a_damaged_one_is_named(self, tmp_path: Path):
        save_checkpoint(tmp_path, load_checkpoint(TINY))
        file = next(tmp_path.glob("*/default")) / "params.safetensors"
        file.write_bytes(b"noise")
        assert str(file) in complaint(lambda: load_checkpoint(tmp_path))


class TestSaving:
    def test_what_is_saved_is_byte_for_byte_what_the_reference_wrote(self, tmp_path: Path):
        tiny = load_checkpoint(TINY)
        save_tiny(tmp_path, tiny.params, step=300000)
        written = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
        assert len(written) == 4
        for path in written:
            assert (tmp_path / path).read_bytes() == (TINY / path).read_bytes()

    def test_another_step_is_added_and_what_describes_the_model_is_kept(self, folder: Path):
        other = dataclasses.replace(load_checkpoint(TINY), config={}, dataset_statistics={}, example_batch={})
        save_checkpoint(folder, dataclasses.replace(other, step=400000, params={"a/b": np.array([1], np.float32)}))
        loaded = load_checkpoint(folder)
        assert (loaded.step, list(loaded.params)) == (400000, ["a/b"])
        assert loaded.statistics_hash == load_checkpoint(TINY).statistics_hash

    def test_a_step_that_is_there_is_never_overwritten(self, folder: Path):
        message = complaint(lambda: save_checkpoint(folder, load_checkpoint(folder)))
        assert "already holds step 300000" in message
        assert load_checkpoint(folder).params_hash == FINGERPRINTS[TINY]

    def test_its_own_vocabulary_goes_with_it(self, tmp_path: Path):
        words = json.dumps({"model": {"type": "WordLevel", "vocab": {"<pad>": 0, "</s>": 1}, "unk_token": "<unk>"}})
        save_checkpoint(tmp_path, dataclasses.replace(load_checkpoint(TINY), vocabulary=words))
        assert load_checkpoint(tmp_path).vocabulary == words
        assert load_checkpoint(TINY).vocabulary is None

    def test_flax_s_own_file_is_read_and_written_byte_for_byte(self):
        written = (GOLDENS / "orbax" / "chunked.msgpack").read_bytes()
        tree = read_tree(written)
        np.testing.assert_array_equal(tree["array"], np.arange(1000, dtype=np.float32).reshape(40, 25))
        assert (tree["bfloat16"].dtype, tree["complex"], tree["scalar"]) == (ml_dtypes.bfloat16, 1 + 2j, 3)
        rewritten = io.BytesIO()
        write_tree(rewritten, tree, chunk_bytes=1000)
        assert rewritten.getvalue() == written


class TestDamage:
    @pytest.mark.parametrize(
        "name",
        ["config.json", "dataset_statistics.json", "example_batch.msgpack", "300000/default/checkpoint"],
    )
    def test_a_missing_file_is_named(self, folder: Path, name: str):
        (folder / name).unlink()
        assert f"{folder / name} is missing; copy or download" in complaint(lambda: load_checkpoint(folder))

    @pytest.mark.parametrize(
        "name",
        ["config.json", "dataset_statistics.json", "example_batch.msgpack", "300000/default/checkpoint"],
    )
    @pytest.mark.parametrize("content", ["nothing", "half", "noise", "more"])
    def test_a_damaged_file_is_named(self, folder: Path, name: str, content: str):
        whole = (folder / name).read_bytes()
        noise = np.random.default_rng(0).bytes(1000)
        damaged = {"nothing": b"", "half": whole[: len(whole) // 2], "noise": noise, "more": whole + b"x"}
        (folder / name).write_bytes(damaged[content])
        message = complaint(lambda: load_checkpoint(folder))
        assert str(folder / name) in message
        assert "again" in message

    @pytest.mark.parametrize("content", ["[]", "3", '{"model": {"heads": {}}}', "null"])
    def test_json_that_is_no_config_is_said_so(self, folder: Path, content: str):
        (folder / "config.json").write_text(content)
        assert "is not a config of Octo" in complaint(lambda: load_checkpoint(folder))

    @pytest.mark.parametrize("tree", [{}, [], {"observation": 3}, {"task": {}, "observation": {}}])
    def test_msgpack_that_is_no_example_batch_is_said_so(self, folder: Path, tree: object):
        (folder / "example_batch.msgpack").write_bytes(msgpack.packb(tree))
        assert "is not an example batch of Octo" in complaint(lambda: load_checkpoint(folder))

    @pytest.mark.parametrize(
        "array",
        [
            ((3,), "O", b"12345678" * 3),
            ((3,), "i4,f4", b"12345678" * 3),
            ((3,), "float32", b"1234"),
            ((2**40, 2**40), "float32", b"1234"),
            ((3,), "no such dtype", b"123"),
            ("shape",),
            7,
        ],
        ids=["objects", "records", "too short", "huge", "unknown dtype", "no triple", "no list"],
    )
    def test_an_array_that_is_not_one_of_numbers_is_refused(self, folder: Path, array: object):
        leaf = msgpack.ExtType(1, msgpack.packb(array))
        (folder / "300000/default/checkpoint").write_bytes(msgpack.packb({"a": {"b": leaf}}))
        assert "300000/default/checkpoint is damaged" in complaint(lambda: load_checkpoint(folder))

    @pytest.mark.parametrize("content", [b"\x81\xa1a" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01"])
    def test_what_claims_to_be_endless_is_refused_at_once(self, folder: Path, content: bytes):
        (folder / "300000/default/checkpoint").write_bytes(content)
        assert "is damaged" in complaint(lambda: load_checkpoint(folder))

    @pytest.mark.parametrize("leaf", [3, None, True, [1.0]])
    def test_a_leaf_that_is_no_array_is_named(self, folder: Path, leaf: object):
        (folder / "300000/default/checkpoint").write_bytes(msgpack.packb({"a": {"b": leaf}}))
        assert "parameter a/b is not an array of numbers" in complaint(lambda: load_checkpoint(folder))

    @pytest.mark.parametrize("content", ["[]", "0", '""', "false", "3", "[1]"])
    def test_json_that_is_no_statistics_is_said_so(self, folder: Path, content: str):
        (folder / "dataset_statistics.json").write_text(content)
        assert "expected statistics by name" in complaint(lambda: load_checkpoint(folder))

    @pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
    def test_a_parameter_that_is_not_finite_is_named(self, number: float):
        params = dict(load_checkpoint(TINY).params)
        path = "octo_transformer/task_language_projection/kernel"
        params[path] = np.array(params[path])
        params[path][3, 5] = number
        said = complaint(lambda: check_finite(params))
        assert f"1 of the checkpoint's parameters hold numbers that are not finite ({path})" in said

    def test_large_parameters_are_finite_all_the_same(self):
        check_finite({"a": np.full(9, 1e38, np.float32), "b": np.ones(3, ml_dtypes.bfloat16), "c": np.arange(3)})

    def test_a_damaged_database_is_said_so(self, tmp_path: Path):
        folder = shutil.copytree(TINY_OCDBT, tmp_path / "checkpoint")
        (folder / "300000/default/manifest.ocdbt").write_bytes(b"noise")
        assert "300000/default is damaged" in complaint(lambda: load_checkpoint(folder))


EXPECTED = {"a": (2, 3), "b": (4,), "c": ()}


class TestCheckingParameters:
    def test_those_of_the_model_pass(self):
        check_params({path: np.zeros(shape) for path, shape in EXPECTED.items()}, EXPECTED)
        check_params(EXPECTED, EXPECTED)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"b": None}, "1 missing (b)"),
            ({"x/y": (1,)}, "1 unknown to the model (x/y)"),
            ({"a": (3, 2)}, "1 of another shape (a (3, 2) instead of (2, 3))"),
            ({"b": None, "c": None, "x": ()}, "2 missing (b, c); 1 unknown to the model (x)"),
            ({f"x{i}": () for i in range(9)}, "9 unknown to the model (x0, x1, x2, ...)"),
        ],
    )
    def test_each_difference_is_named(self, change: dict, said: str):
        params = {path: shape for path, shape in {**EXPECTED, **change}.items() if shape is not None}
        assert said in complaint(lambda: check_params(params, EXPECTED))
