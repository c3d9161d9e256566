"""GET /tasks and GET /tasks/{name}/trials/{seed}: the tabletop suite, as requests take it."""

import pytest

from vla_server_base.episodes.settings import EpisodeSettings
from vla_server_base.schemas.success import success_to_body
from vla_server_base.tabletop.paraphrases import task_of_instruction
from vla_server_base.tabletop.tables import TABLES
from vla_server_base.tabletop.tasks import TASKS
from vla_server_base.tabletop.trials import draw_trial


@pytest.mark.parametrize("robot", TABLES)
def test_every_task_of_the_suite_is_a_preset(client, robot):
    tasks = client.get("/tasks", params={"robot": robot}).json()["tasks"]
    assert [task["name"] for task in tasks] == list(TASKS)
    for task in tasks:
        suite_task = TASKS[task["name"]]
        assert task["success"] == success_to_body(suite_task.success(TABLES[robot]))
        assert task_of_instruction(task["instruction"]) == suite_task
        assert (task["robot"], task["scene"]) == (robot, f"{robot}/tabletop")


def test_the_robot_is_a_panda_unless_another_one_is_named(client):
    assert client.get("/tasks").json() == client.get("/tasks", params={"robot": "panda"}).json()


@pytest.mark.parametrize("robot", TABLES)
@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_a_trial_is_the_suites_of_that_seed(client, robot, seed):
    name = "put_on_red_cube_blue_cube"
    trial = client.get(f"/tasks/{name}/trials/{seed}", params={"robot": robot}).json()
    drawn = draw_trial(TASKS[name], seed, robot=robot)
    assert trial == {
        "instruction": drawn.instruction,
        "scene": f"{robot}/tabletop",
        "state": {"qpos": drawn.start.qpos.tolist()},
        "success": success_to_body(TASKS[name].success(TABLES[robot])),
        "seed": seed,
        "max_steps": EpisodeSettings().max_steps,
    }


def test_a_trial_can_be_sent_as_an_episode(client):
    trial = client.get("/tasks/pick_up_red_cube/trials/7").json()
    scene = client.get(f"/scenes/{trial.pop('scene')}").text
    response = client.post("/execute", json={**trial, "xml_string": scene, "max_steps": 2})
    assert response.status_code == 200, response.text
    assert response.json()["initial_state"]["qpos"] == trial["state"]["qpos"]
    assert response.json()["success"] is False


@pytest.mark.parametrize(
    ("path", "code", "available"),
    [
        ("/tasks?robot=r2d2", "unknown_robot", "panda, widowx"),
        ("/tasks/pick_up_red_cube/trials/1?robot=r2d2", "unknown_robot", "panda, widowx"),
        ("/tasks/juggle/trials/1", "unknown_task", "pick_up_blue_cube"),
    ],
)
def test_an_unknown_task_or_robot_is_named_with_what_there_is(client, path, code, available):
    response = client.get(path)
    assert (response.status_code, response.json()["error"]["code"]) == (404, code)
    assert available in response.json()["error"]["hint"]


@pytest.mark.parametrize("seed", ["-1", str(2**32), "one"])
def test_a_seed_is_a_number_of_32_bits(client, seed):
    response = client.get(f"/tasks/pick_up_red_cube/trials/{seed}")
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_request")
    assert "seed" in response.json()["error"]["message"]
