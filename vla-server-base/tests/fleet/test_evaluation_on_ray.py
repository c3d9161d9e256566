"""An evaluation on a cluster comes out as in one process, bit for bit, whatever is lost on the way."""

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_policy import PROGRAM, Judged, JudgedConfig
from two_nodes import add_node

from vla_server_base.commands.command_line import parse, run
from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.episodes.settings import EpisodeSettings
from vla_server_base.errors import RequestError, Unavailable, UsageError
from vla_server_base.fleet import evaluation
from vla_server_base.fleet.cluster import connected
from vla_server_base.fleet.evaluation import RayEpisodes
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.tabletop.evaluation import LocalEpisodes, evaluate
from vla_server_base.tabletop.local_episodes import EvaluationPlan, local_episodes
from vla_server_base.tabletop.tasks import TASKS
from vla_server_base.tabletop.trials import draw_trial

SHORT = "judged --tasks pick_up_red push_left_red --trials 2 --grounding 1 --max-steps 6 --execution-horizon 2"
TIMED = ("predict_ms", "duration_s")
SETTINGS = EpisodeSettings(max_steps=6, execution_horizon=2)


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What an evaluation prints and writes, but when and where it ran, and how long it took."""

    tables: str
    rows: list
    videos: dict


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def small_workers(monkeypatch, tmp_path):
    monkeypatch.setenv("VLA_RENDERER", "raycast")
    monkeypatch.setenv("VLA_SCENE_WORKERS", "1")
    monkeypatch.setenv("VLA_CACHE_DIR", str(tmp_path / "cache"))


def evaluated(folder: Path, capsys, options: str = "") -> Evaluated:
    command = f"evaluate {SHORT} --out {folder / 'results.jsonl'} --videos {folder / 'failures'} {options}"
    run(PROGRAM, parse(PROGRAM, shlex.split(command)))
    _, tables = capsys.readouterr().out.split("\n\n", 1)
    return Evaluated(
        tables=tables,
        rows=rows_of(folder / "results.jsonl"),
        videos={path.name: path.read_bytes() for path in (folder / "failures").iterdir()},
    )


def rows_of(file: Path) -> list:
    _, *rows = map(json.loads, file.read_text().splitlines())
    rows = [{name: value for name, value in row.items() if name not in TIMED} for row in rows]
    return sorted(rows, key=lambda row: (row["part"], row["task"], row["seed"]))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same evaluation in one process."""
    return tmp_path_factory.mktemp("alone"), []


@pytest.fixture
def in_one_process(alone, capsys) -> Evaluated:
    folder, kept = alone
    if not kept:
        kept.append(evaluated(folder, capsys))
    return kept[0]


def test_workers_on_two_nodes_come_to_the_tables_rows_and_videos_of_one_process(
    cluster, in_one_process, tmp_path, capsys
):
    spread = evaluated(tmp_path, capsys, f"--engine ray --address {cluster.address} --workers 3")
    assert spread == in_one_process
    assert (len(spread.rows), len(spread.videos)) == (7, 6), "one trial is in both parts"


def test_workers_ask_a_server_for_its_policys_actions(cluster, tmp_path, capsys):
    server = ServerConfig(renderer="raycast", scene_workers=1, cache_dir=tmp_path / "cache")
    with serving(create_vla_app(Judged(JudgedConfig()), server, model_id="judged")) as url:
        while httpx.get(f"{url}/info").json()["model_status"] != "loaded":
            pass
        found = []
        for number, engine in enumerate(("in-process", f"ray --address {cluster.address} --workers 2")):
            out = tmp_path / f"{number}.jsonl"
            brief = "--tasks push_left_red --trials 3 --grounding 0 --max-steps 2"
            run(PROGRAM, parse(PROGRAM, shlex.split(f"evaluate {url} {brief} --out {out} --engine {engine}")))
            found.append((capsys.readouterr().out.split("\n\n", 1)[1], rows_of(out)))
    assert found[0] == found[1]
    assert len(found[0][1]) == 3


def test_a_worker_that_is_killed_in_mid_trial_changes_nothing(cluster, in_one_process, tmp_path, capsys, caplog):
    (tmp_path / "fatal").write_text("1")
    options = f"--engine ray --address {cluster.address} --fatal {tmp_path / 'fatal'}"
    assert evaluated(tmp_path, capsys, options) == in_one_process
    assert "its worker was lost" in caplog.text


def test_what_one_process_began_is_gone_on_with_on_a_cluster(cluster, in_one_process, tmp_path, capsys):
    out = tmp_path / "results.jsonl"
    begun = f"evaluate {SHORT} --out {out} --videos {tmp_path / 'failures'} --trials 1 --grounding 0"
    run(PROGRAM, parse(PROGRAM, shlex.split(begun)))
    capsys.readouterr()
    num_begun = len(out.read_text().splitlines())
    found = evaluated(tmp_path, capsys, f"--engine ray --address {cluster.address}")
    assert (num_begun, found) == (3, in_one_process)


# As in a terminal: what a shell runs in the background ignores the signal, and what that runs.
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from vla_server_base.commands.command_line import main
from judged_policy import PROGRAM
main(PROGRAM)
"""


def marked(mark: str) -> set[Path]:
    """Return the processes whose environment has a text."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark.encode() in file.read_bytes():
                found.add(file.parent)
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")
def test_after_ctrl_c_the_results_are_kept_and_no_process_is_left(tmp_path):
    out, mark = tmp_path / "results.jsonl", f"LC_EVALUATION={tmp_path}"
    command = f"evaluate judged --tasks push_left --trials 300 --max-steps 1 --grounding 0 --engine ray --out {out}"
    # A variable that is handed on to scene workers, too.
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "LC_EVALUATION": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *shlex.split(command)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and (not out.exists() or len(out.read_text().splitlines()) < 4):
        time.sleep(0.1)
    assert len(marked(mark)) > 8, "a driver, Ray's own processes, two workers with their scene workers"
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert f"{out} holds" in said
    assert "| **all** | 0 of " in printed
    deadline = time.monotonic() + 30
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert marked(mark) == set()


def plan(**config) -> EvaluationPlan:
    return EvaluationPlan(
        policy="judged",
        adapter=PROGRAM.adapter,
        config=JudgedConfig(**config),
        server=ServerConfig(renderer="raycast", scene_workers=2),
        robot="panda",
        window=None,
        settings=SETTINGS,
    )


def timeless(results) -> list:
    return sorted((r.task, r.seed, r.reason, r.num_steps, r.lifted, r.moved) for r in results)


async def results(episodes: LocalEpisodes | RayEpisodes, num_at_once: int, on_first=lambda: None) -> list:
    trials = [draw_trial(TASKS["pick_up_red_cube"], seed) for seed in range(12)]
    found = []
    async for played in evaluate(episodes, trials, SETTINGS, num_at_once=num_at_once):
        if not found:
            on_first()
        found.append(played.result)
    return timeless(found)


@pytest.mark.anyio
async def test_a_node_that_is_removed_in_mid_run_changes_nothing(cluster, caplog):
    node = add_node(cluster, num_cpus=2)
    async with local_episodes(plan()) as local:
        alone = await results(local.episodes, 4)
    with connected(cluster.address):
        # They are spread over the nodes, so that one of them is on the node that goes.
        workers = RayEpisodes(plan(), num_workers=3, num_at_once=4)
        async with workers:
            while workers.num_ready < 3:
                await asyncio.sleep(0.05)
            removed = partial(cluster.remove_node, node, allow_graceful=False)
            spread = await results(workers, workers.num_at_once, removed)
    assert spread == alone
    assert "was lost" in caplog.text


@pytest.mark.anyio
async def test_a_trial_that_loses_every_worker_ends_the_evaluation(cluster, tmp_path):
    fatal = tmp_path / "fatal"
    fatal.write_text("1000")
    with connected(cluster.address):
        async with RayEpisodes(plan(fatal=str(fatal)), num_workers=2, num_at_once=1) as workers:
            with pytest.raises(Unavailable, match="has lost 3 workers") as refused:
                await results(workers, 1)
    assert "lack of memory" in refused.value.hint


def test_what_a_worker_refuses_is_said_as_by_one_process(cluster):
    command = f"evaluate judged --window 3 --engine ray --address {cluster.address} --workers 1"
    with pytest.raises(RequestError, match="expected 1 to 2 observations, got 3"):
        run(PROGRAM, parse(PROGRAM, shlex.split(command)))


@pytest.mark.anyio
@pytest.mark.parametrize("num_threads", [None, "3"])
async def test_a_worker_has_the_folder_and_the_threads_of_the_command(cluster, tmp_path, monkeypatch, num_threads):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if num_threads is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", num_threads)
    with connected(cluster.address):
        async with RayEpisodes(plan(), num_workers=1, num_at_once=1) as workers:
            assert workers.report.info["details"] == {"folder": str(tmp_path), "openmp_threads": num_threads}


@pytest.mark.anyio
async def test_workers_with_different_weights_are_refused(cluster):
    with (
        connected(cluster.address),
        pytest.raises(Unavailable, match=r"the workers differ in weights: \d{12} at .*, \d{12} at "),
    ):
        async with RayEpisodes(plan(has_own_weights=True), num_workers=2, num_at_once=1) as workers:
            await results(workers, 1)


@pytest.mark.anyio
async def test_a_worker_for_which_no_node_is_large_enough_is_not_waited_for_forever(cluster, monkeypatch, caplog):
    monkeypatch.setattr(evaluation, "HINT_S", 0.1)
    monkeypatch.setattr(evaluation, "ROOM_S", 0.1)
    large = replace(plan(), server=ServerConfig(scene_workers=64))
    with (
        connected(cluster.address),
        pytest.raises(Unavailable, match="room for a worker, which takes 64 CPUs and 0 GPUs") as refused,
    ):
        async with RayEpisodes(large, num_workers=1, num_at_once=1):
            pass
    assert "--scene-workers" in refused.value.hint
    assert "waits for a node with 64 CPUs" in caplog.text


@given(num_workers=st.integers(1, 64), num_gpus=st.integers(1, 64))
def test_all_workers_find_room_on_the_gpus_and_use_each_of_them(num_workers, num_gpus):
    share = evaluation.gpu_share(num_workers, num_gpus)
    num_on_a_gpu = int(1 / share)
    assert 0 < share <= 1
    assert num_gpus * num_on_a_gpu >= num_workers
    assert num_gpus * (num_on_a_gpu - 1) < num_workers, "no GPU is shared by more than it takes"


def test_under_uv_run_processes_start_as_otherwise(cluster, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV")
    program = f"""
import vla_server_base.fleet.serving
import ray
from vla_server_base.fleet.cluster import connected

with connected("{cluster.address}"):
    print("environment:", ray.get_runtime_context().runtime_env)
"""
    (tmp_path / "run").write_text(f"{shlex.join([sys.executable, '-c', program])}\n:\n")
    # Ray looks for such a command line among the processes that began its own.
    output = subprocess.check_output(["uv", "run"], executable="/bin/bash", cwd=tmp_path, text=True)
    assert "environment: {}" in output


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--workers 2", "--workers is given without --engine ray"),
        ("--address auto", "--address is given without --engine ray"),
        ("--engine ray --through execute", "cannot be combined"),
    ],
)
def test_flags_that_do_nothing_together_are_refused(flags, says):
    with pytest.raises(UsageError, match=says) as refused:
        run(PROGRAM, parse(PROGRAM, ["evaluate", "judged", *flags.split()]))
    assert refused.value.hint


def test_without_ray_the_hint_says_how_to_install_it(monkeypatch):
    for name in [name for name in sys.modules if re.match(r"ray(\.|$)|vla_server_base\.fleet\.", name)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="Ray is not installed") as refused:
        run(PROGRAM, parse(PROGRAM, ["evaluate", "judged", "--engine", "ray"]))
    assert "EXTRAS=ray" in refused.value.hint
