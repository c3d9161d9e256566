"""`octo-service evaluate`, typed as a user would: a checkpoint or a server in, a table and a file of results out."""

import dataclasses
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from policy_server import wait_until_healthy

from octo_service.config import OctoConfig
from octo_service.program import OCTO
from vla_server_base.commands.command_line import parse, run
from vla_server_base.commands.options.evaluate import Evaluate
from vla_server_base.commands.serve import create_app
from vla_server_base.config import ServerConfig
from vla_server_base.errors import RequestError, UnknownName
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.tabletop.splits import FIRST_SEED

MODEL = "random://octo-tiny"
# As in a terminal: what a shell runs in the background ignores the signal, and what that runs.
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
INTERRUPTIBLE += "from octo_service.cli import main; main()"
SHORT = "--max-steps 2 --execution-horizon 2 --latency-ms 100"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def url(cache: Path) -> Iterator[str]:
    config = ServerConfig(cache_dir=cache, device="cpu", renderer="raycast", scene_workers=1)
    with serving(create_app(OCTO, config, OctoConfig(model=MODEL))) as url:
        wait_until_healthy(url)
        yield url


@pytest.fixture(autouse=True)
def small_server(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VLA_CACHE_DIR", str(cache))
    monkeypatch.setenv("VLA_DEVICE", "cpu")
    monkeypatch.setenv("VLA_RENDERER", "raycast")
    monkeypatch.setenv("VLA_SCENE_WORKERS", "1")


def evaluate(arguments: str) -> None:
    run(OCTO, parse(OCTO, ["evaluate", *shlex.split(arguments)]))


def trials_in(path: Path) -> list[dict]:
    _, *rows = map(json.loads, path.read_text().splitlines())
    return rows


def test_a_checkpoint_gets_a_table_a_file_and_videos_and_is_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture):
    path, videos = tmp_path / "results.jsonl", tmp_path / "failures"
    command = f"{MODEL} {SHORT} --tasks pick_up_red --out {path} --videos {videos} --max-videos 1"
    evaluate(f"{command} --trials 1 --grounding 1")
    printed = capsys.readouterr()
    assert "| pick_up_red_cube | 0 of 1 | 0.0% | 0.0% to 79.3% |" in printed.out
    assert "| **all** | 0 of 1 |" in printed.out
    assert re.search(r"^`octo-service .*`: \d{4}-\d\d-\d\d; .* cores; Python 3.*; random://octo-tiny, ", printed.out)
    assert re.search(r"^grounding: 3/3 trials \[.*, done=0\]$", printed.err, re.MULTILINE)
    assert "\r" not in printed.err
    first = trials_in(path)
    assert [row["part"] for row in first] == ["suite", "grounding", "grounding", "grounding"]
    (video,) = videos.iterdir()
    assert video.name == f"pick_up_red_cube-{FIRST_SEED}-{first[0]['instruction'].replace(' ', '_')}.webp"
    with Image.open(video) as animation:
        assert (animation.size, animation.n_frames) == ((448, 224), 3)
    evaluate(f"{command} --trials 2 --grounding 1")
    rows = trials_in(path)
    assert rows[:4] == first, "what was there was not run again"
    assert [row["seed"] for row in rows[4:]] == [FIRST_SEED + 1]
    assert "| pick_up_red_cube | 0 of 2 |" in capsys.readouterr().out


def test_a_server_gets_the_same_results_action_by_action_and_by_whole_episodes(url: str, tmp_path: Path):
    found = []
    for through in ("predict", "execute"):
        path = tmp_path / f"{through}.jsonl"
        evaluate(f"{url} {SHORT} --tasks push put_on_red --split held_out --trials 1 --through {through} --out {path}")
        rows = trials_in(path)
        found.append([{key: row[key] for key in row if key not in ("predict_ms", "duration_s")} for row in rows])
    assert found[0] == found[1]
    assert len(found[0]) == 7, "six pushes and one to put on; nothing that would show who listens"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ("--tasks fold_the_towel", UnknownName, "task 'fold_the_towel' is not known"),
        ("--window 3", RequestError, "expected 1 to 2 observations"),
        ("--execution-horizon 5", RequestError, "expected 1 to 4, the length of the policy's chunks"),
        ("--execution-horizon 2 --ensemble-weight 0", RequestError, "cannot be combined"),
        ("--through execute --window 1", RequestError, "--through execute: --window is given"),
    ],
)
def test_what_cannot_be_evaluated_is_said_at_once(url: str, arguments: str, error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        evaluate(f"{url} --trials 1 {arguments}")


def test_a_window_of_one_is_another_evaluation(url: str, tmp_path: Path):
    path = tmp_path / "results.jsonl"
    evaluate(f"{url} --max-steps 1 --tasks push_left_red --trials 1 --window 1 --out {path}")
    with pytest.raises(RequestError, match="window 1, now 2"):
        evaluate(f"{url} --max-steps 1 --tasks push_left_red --trials 1 --window 2 --out {path}")


def test_what_was_found_is_printed_where_it_is_interrupted(url: str, tmp_path: Path):
    path = tmp_path / "results.jsonl"
    options = f"{url} --tasks pick_up --max-steps 1 --trials 300 --grounding 0 --through execute --out {path}"
    command = [sys.executable, "-c", INTERRUPTIBLE, "evaluate", *shlex.split(options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 240
            while not path.exists() or len(path.read_text().splitlines()) < 4:
                assert time.monotonic() < deadline
                assert process.poll() is None, process.communicate()
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            printed, said = process.communicate(timeout=60)
        finally:
            process.kill()
    num_found = len(trials_in(path))
    assert process.returncode == 130
    assert f"| **all** | 0 of {num_found} |" in printed
    assert "Traceback" not in said
    assert f"interrupted; {path} holds {num_found} trials; to go on: octo-service evaluate {url}" in said


def test_every_option_is_documented():
    page = (Path(__file__).parents[4] / "docs" / "evaluation.md").read_text()
    options = {field.name for field in dataclasses.fields(Evaluate)} - {"policy", "server", "config"}
    named = {option.replace("-", "_") for option in re.findall(r"`--([a-z-]+)[` ]", page)}
    assert options <= named
