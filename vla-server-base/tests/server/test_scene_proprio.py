"""What a scene's arm measures reaches the policy on every route, and a policy that cannot have it is not asked."""

import io
import json
import zipfile
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import httpx
import mujoco
import numpy as np
import pyarrow.parquet as pq
import pytest
from echo_server import echo_app, of_one_colour, wait_until_healthy

from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicySpec
from vla_server_base.episodes import EpisodeSettings, EpisodeStep, play
from vla_server_base.episodes.policies import HttpPolicy, LastObservations
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import RolloutRequest, SceneState
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.scenes.worker.simulation.rollout import Simulation
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.tabletop.tasks import TASKS
from vla_server_base.tabletop.trials import draw_trial
from vla_server_base.testing import EchoAdapter

PANDA = bundled_scene("panda", "tabletop")
NAMES = (*(f"joint{number}" for number in range(1, 8)), "gripper")
DOWN, STAY = [0.01, 0.0, -0.01, 0.0, 0.0, 0.1, 0.0], [0.0] * 6 + [1.0]
PENDULUM = """<mujoco><worldbody><camera name="primary"/><body><joint/><geom size=".1"/></body></worldbody></mujoco>"""


class Follower(EchoAdapter):
    """Moves only as long as the joints that it is told are those of a simulation of its own."""

    changes: Mapping[str, Any] = {"requires_proprio": True, "proprio_names": NAMES, "proprio_dim": 8}

    @cached_property
    def _spec(self) -> PolicySpec:
        return replace(super()._spec, window=1, **self.changes)

    def load_model(self, model_id, device, cache_dir):
        model = mujoco.MjModel.from_xml_string(PANDA)
        self._simulation = Simulation(model, mujoco.MjData(model))
        self.told: list[np.ndarray | None] = []

    def preprocess_observation(self, window, dataset=None):
        self.told = [*self.told, window.observations[-1].proprio]
        return {"proprio": np.array([[window.observations[-1].proprio]], float)}

    def predict(self, batch):
        return [np.tile(self._action(each.observation["proprio"][0, 0], each.step), (1, 4, 1)) for each in batch]

    def _action(self, told: np.ndarray, step: int) -> list[float]:
        start = SceneState() if step == 0 else self._reached
        actions = np.array([] if step == 0 else [DOWN]).reshape(-1, 7)
        reply = self._simulation.roll_out(RolloutRequest(start=start, actions=actions))
        self._reached = reply.end
        state = reply.steps[-1].state if reply.steps else reply.state
        expected = [*state.qpos[:7], np.clip(state.qpos[7:9].mean() / 0.04, 0, 1)]
        return DOWN if np.allclose(told, expected, rtol=0, atol=1e-12) else STAY


class Names(Follower):
    changes: Mapping[str, Any] = {
        "requires_proprio": True,
        "proprio_names": ("gripper", "joint2"),
        "proprio_dim": 2,
    }

    def predict(self, batch):
        return [np.tile([*each.observation["proprio"][0, 0], 0, 0, 0, 0, 0], (1, 4, 1)) for each in batch]


class Another(Names):
    changes: Mapping[str, Any] = {"requires_proprio": True, "proprio_names": ("x", "y"), "proprio_dim": 2}


class InDegrees(Follower):
    changes: Mapping[str, Any] = {**Follower.changes, "proprio_units": ("deg",) * 7 + ("",)}


class Optional(Follower):
    changes: Mapping[str, Any] = {"proprio_names": ("x", "y"), "proprio_dim": 2}

    def predict(self, batch):
        return [np.tile(STAY, (1, 4, 1)) for _ in batch]


class Unnamed(Optional):
    changes: Mapping[str, Any] = {"proprio_dim": 8}


def served(adapter):
    return serving(echo_app(adapter))


@pytest.fixture(scope="module")
def follower():
    adapter = Follower()
    with served(adapter) as url:
        wait_until_healthy(url)
        yield adapter, url


@pytest.fixture
def client(follower):
    with httpx.Client(base_url=follower[1], timeout=120) as client:
        yield client


def asked(client, path="/predict", **body) -> dict:
    response = client.post(path, json={"instruction": "go", "seed": 1, "xml_string": PANDA, **body})
    assert response.status_code == 200, response.text
    return response.json()


def refused(client, path="/predict", **body) -> dict:
    response = client.post(path, json={"instruction": "go", "seed": 1, "xml_string": PANDA, **body})
    assert response.status_code == 422, response.text
    return response.json()["error"]


def test_an_episode_tells_the_policy_where_its_arm_is_at_every_step(client):
    reply = asked(client, "/execute", max_steps=4)
    np.testing.assert_allclose(reply["actions"], [DOWN] * 4)
    assert "notes" not in reply


def test_a_steered_episode_does_too_also_after_bodies_are_put_elsewhere(follower, client):
    changes = [{"step": 2, "bodies": {"red_cube": {"position": [0.5, 0.2, 0.1]}}}]
    reply = asked(client, "/execute", max_steps=4, changes=changes)
    # The arm does not touch the cube: its own simulation without it goes the same way.
    np.testing.assert_allclose(reply["actions"], [DOWN] * 4)
    response = client.post(
        "/episodes", json={"instruction": "go", "xml_string": PANDA, "max_steps": 3, "pace": "fast", "seed": 1}
    )
    assert response.status_code == 201, response.text
    with client.stream("GET", f"/episodes/{response.json()['episode_id']}/events") as events:
        data = [json.loads(line[6:]) for line in events.iter_lines() if line.startswith("data: ")]
    assert [event["action"] for event in data if "action" in event] == [DOWN] * 3


def test_a_scene_is_answered_with_its_arm_where_it_is(follower, client):
    assert asked(client)["actions"][0] == DOWN
    assert follower[0].told[-1].shape == (8,)


def test_a_request_may_say_itself_what_the_policy_is_to_believe(follower, client):
    lie = [0.25] * 8
    assert asked(client, proprio=lie)["actions"][0] == STAY
    np.testing.assert_array_equal(follower[0].told[-1], lie)
    assert asked(client, xml_string=PENDULUM, proprio=lie)["actions"][0] == STAY


def test_a_scene_without_an_arm_is_refused_where_the_policy_requires_its_state(client):
    error = refused(client, xml_string=PENDULUM)
    assert error["message"].startswith("proprio: the policy's proprio is joint1, joint2,")
    assert error["message"].endswith("gripper, and this scene has no arm")
    assert "`proprio`" in error["hint"]


@pytest.mark.anyio
async def test_a_server_elsewhere_is_told_as_well(follower):
    scene, task, settings = draw_trial(TASKS["pick_up_red_cube"], 1).episode(max_steps=3)
    settings = EpisodeSettings(max_steps=3, seed=settings.seed)
    scene = replace(scene, xml=PANDA)
    config = ServerConfig(renderer="raycast", scene_workers=1)
    async with ScenePool(config) as pool, HttpPolicy(follower[1]) as policy:
        for shown in (policy, LastObservations(policy, 1)):
            events = [event async for event in play(shown, pool, scene, task, settings)]
            assert [event.action.tolist() for event in events if isinstance(event, EpisodeStep)] == [DOWN] * 3


def test_what_is_recorded_is_what_the_policy_was_told(follower, client):
    before = len(follower[0].told)
    reply = asked(client, "/execute", max_steps=3, record=["lerobot"])
    with zipfile.ZipFile(io.BytesIO(b64decode(reply["recordings"]["lerobot"]))) as archive:
        (name,) = [each for each in archive.namelist() if each.startswith("data/") and each.endswith(".parquet")]
        table = pq.read_table(io.BytesIO(archive.read(name)))
        features = json.loads(archive.read("meta/info.json"))["features"]
    assert features["observation.state"]["names"] == [*(f"joint{number}" for number in range(1, 8)), "gripper"]
    states = np.array(table["observation.state"].to_pylist())
    np.testing.assert_allclose(states, follower[0].told[before:], rtol=0, atol=1e-6)


def test_numbers_are_chosen_by_the_policys_names_in_its_order():
    with served(Names()) as url, httpx.Client(base_url=url, timeout=60) as client:
        wait_until_healthy(url)
        action = asked(client)["actions"][0]
        assert action[0] == pytest.approx(1.0, abs=0.01)
        assert action[1] == pytest.approx(-np.pi / 5, abs=0.01)


@pytest.mark.parametrize(
    ("adapter", "takes"), [(Another, "x, y"), (InDegrees, f"{', '.join(NAMES)} (in degrees)")], ids=["names", "units"]
)
def test_a_policy_that_requires_other_proprio_is_refused_with_both_lists(adapter, takes):
    told = f"proprio: the policy's proprio is {takes}, and the scene's arm measures 8: {', '.join(NAMES)}"
    with served(adapter()) as url, httpx.Client(base_url=url, timeout=60) as client:
        wait_until_healthy(url)
        for path in ("/predict", "/execute", "/episodes"):
            assert refused(client, path)["message"] == told, path


@pytest.mark.parametrize(
    ("adapter", "note"),
    [(Optional, "the policy's proprio is x, y, and"), (Unnamed, "does not name its proprio; it gets what the arm")],
    ids=["unfit", "unnamed"],
)
def test_a_policy_that_can_do_without_is_answered_and_a_note_says_what_it_gets(adapter, note):
    policy = adapter()
    with served(policy) as url, httpx.Client(base_url=url, timeout=60) as client:
        wait_until_healthy(url)
        for path in ("/predict", "/execute"):
            (said,) = asked(client, path, **({"max_steps": 1} if path == "/execute" else {}))["notes"]
            assert note in said
            assert (policy.told[-1] is None) == (adapter is Optional)


def test_images_get_nothing_of_it(client):
    response = client.post("/predict", json={"instruction": "go", "image": of_one_colour(1, 2, 3), "proprio": [0] * 8})
    assert "notes" not in response.json()
