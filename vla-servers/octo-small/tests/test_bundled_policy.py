"""The policy that comes with the package: what it is, and that it does what it is told."""

import json
import shlex
from collections import Counter
from pathlib import Path

import pytest

from octo_service import cli
from octo_service.checkpoints.hub import BUNDLED, resolve
from octo_service.errors import HubError
from octo_service.model import OctoModel

MODEL = "bundled://tabletop"
MAX_BYTES = 12 * 2**20


def test_it_is_small_and_has_a_card():
    files = [file for file in BUNDLED.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < MAX_BYTES
    assert (BUNDLED / "tabletop" / "README.md").read_text().startswith(f"# {MODEL}\n")
    assert any(file.suffix == ".safetensors" for file in files)


def test_it_is_the_checkpoint_that_the_documents_speak_of():
    checkpoint = OctoModel.load_pretrained(MODEL).checkpoint
    page = (Path(__file__).parents[3] / "docs" / "policy.md").read_text()
    assert f"step {checkpoint.step}, {checkpoint.params_hash[:12]} on cpu" in page


def test_another_name_is_refused_with_those_there_are():
    with pytest.raises(HubError, match="no policy 'kitchen' comes with the package; available: tabletop"):
        resolve("bundled://kitchen")


def test_it_does_what_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VLA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("VLA_DEVICE", "cpu")
    tasks = "pick_up_red_cube push_left_green_sphere put_on_blue_cube_red_cube put_next_to_green_sphere_red_cube"
    arguments = f"{MODEL} --tasks {tasks} --trials 3 --grounding 3 --out {tmp_path / 'results.jsonl'}"
    cli.run(cli.parse(["evaluate", *shlex.split(arguments)]))
    _, *trials = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    done = Counter(trial["task"] for trial in trials if trial["part"] == "suite" and trial["success"])
    # Of twelve, and of nine; of another machine's rounding one or two may fail.
    assert sum(done.values()) >= 10, done
    asked = [trial for trial in trials if trial["part"] == "grounding"]
    assert len(asked) == 9
    assert [trial for trial in asked if set(trial["lifted"]) - {trial["task"].removeprefix("pick_up_")}] == []
    assert sum(bool(trial["lifted"]) for trial in asked) >= 7
