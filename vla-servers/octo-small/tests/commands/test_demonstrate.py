"""`octo-service demonstrate`, typed as a user would: demonstrations in a folder, to learn from."""

import asyncio
import dataclasses
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from policy_server import wait_until_healthy

from octo_service.preprocessing.images import resize_lanczos
from octo_service.program import OCTO
from vla_server_base.commands.command_line import parse, run
from vla_server_base.commands.options.demonstrate import Demonstrate
from vla_server_base.config import ServerConfig
from vla_server_base.datasets import RecordedEpisode, open_dataset
from vla_server_base.errors import RequestError, UnknownName
from vla_server_base.scenes.messages import RenderedView, RenderRequest
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.tabletop.tasks import task_named
from vla_server_base.tabletop.trials import Trial, draw_trial
from vla_server_base.testing import EchoAdapter

SHORT = "--tasks pick_up_red --sizes primary=96 wrist=48 --seed 4"


def demonstrate(arguments: str) -> None:
    run(OCTO, parse(OCTO, ["demonstrate", *shlex.split(f"--workers 1 {arguments}")]))


def episodes_in(folder: Path) -> list[RecordedEpisode]:
    dataset = open_dataset(folder)
    assert dataset.fps == 5
    return [dataset[index] for index in range(len(dataset))]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the demonstration of one trial."""
    folder = tmp_path_factory.mktemp("recorded")
    demonstrate(f"--out {folder} {SHORT} --episodes-per-task 1")
    return folder


async def served_pictures(trial: Trial) -> RenderedView:
    async with ScenePool(ServerConfig(scene_workers=1)) as pool:
        return (await pool.render(trial.scene, RenderRequest(state=trial.start))).view


def test_pictures_are_what_a_policy_makes_of_those_that_it_is_served(recorded: Path):
    (episode,) = episodes_in(recorded)
    pictures = asyncio.run(served_pictures(draw_trial(task_named("pick_up_red_cube"), 4)))
    for name, side in (("primary", 96), ("wrist", 48)):
        served = resize_lanczos(pictures.images[name], side, side)
        np.testing.assert_array_equal(episode.images[name][0], served)


def test_a_second_run_adds_what_is_missing(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    demonstrate(f"--out {tmp_path} {SHORT} --episodes-per-task 2")
    (there,), (first, second) = episodes_in(recorded), episodes_in(tmp_path)
    assert first.metadata == {"task": "pick_up_red_cube", "seed": 4, "robot": "panda", "success": True}
    assert second.metadata == {**first.metadata, "seed": 5}
    np.testing.assert_array_equal(first.images["primary"], there.images["primary"])
    assert second.expert_drove is not None
    assert second.expert_drove.all()
    assert "1 episodes recorded, 1 were there; 0 failed" in capsys.readouterr().out


def test_random_views_are_recorded_beside(tmp_path: Path):
    demonstrate(f"--out {tmp_path / 'shown'} {SHORT} --episodes-per-task 1 --random-views 2")
    (episode,), views = episodes_in(tmp_path / "shown"), episodes_in(tmp_path / "shown-random-views")
    assert len(views) == 2 * len(episode)
    assert {len(view) for view in views} == {1}
    for recorded in (episode, views[0]):
        assert recorded.environment_state is not None
        assert recorded.environment_state.shape[1] == 16
    assert views[0].images["primary"].shape == (1, 96, 96, 3)


def test_a_servers_policy_acts_first_and_a_lerobot_dataset_is_written(tmp_path: Path):
    command = f"--out {tmp_path} --tasks push_left_red --sizes primary=32 --episodes-per-task 1"
    with serving(create_vla_app(EchoAdapter(), ServerConfig(scene_workers=1), model_id="echo")) as url:
        wait_until_healthy(url)
        demonstrate(f"{command} --policy {url} --policy-share 1 --policy-steps 4 --policy-horizon 2 --seed 2")
    (episode,) = episodes_in(tmp_path)
    assert (tmp_path / "meta" / "info.json").exists()
    assert episode.images.keys() == {"primary"}
    assert episode.expert_drove is not None
    assert episode.expert_drove.tolist() == [False] * 3 + [True] * (len(episode) - 3)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ("--tasks juggle", UnknownName, "task 'juggle' is not known"),
        ("--sizes primary", RequestError, "--sizes primary"),
        ("--sizes left=64", RequestError, "--sizes left=64"),
        ("--seed 999950", RequestError, "trials 999950 to 1000049: those from 1000000 on are for evaluation"),
        ("--robot r2d2", UnknownName, "robot 'r2d2' is not known"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_anything_is_written(tmp_path: Path, arguments: str, error, said: str):
    with pytest.raises(error, match=said):
        demonstrate(f"--out {tmp_path / 'new'} {arguments}")
    assert not (tmp_path / "new").exists()


def test_every_flag_is_documented_with_its_default():
    page = (
        (Path(__file__).parents[4] / "docs" / "datasets.md").read_text().partition("## `octo-service demonstrate`")[2]
    )
    for field in dataclasses.fields(Demonstrate):
        (default,) = re.findall(rf"^\| `--{field.name.replace('_', '-')}` \| (.*?) \|", page, re.MULTILINE)
        if isinstance(field.default, str | int | float):
            assert default.strip("`") == str(field.default).lower()
