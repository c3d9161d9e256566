"""A policy is the same policy wherever it runs: in this process, or behind a server's address."""

import httpx
import numpy as np
import pytest

from vla_server_base.config import ServerConfig
from vla_server_base.contract import Observation, Task
from vla_server_base.episodes import EpisodeSettings, EpisodeStep, play
from vla_server_base.episodes.policies import HttpPolicy, LastObservations, check_drives_arm, load_policy
from vla_server_base.errors import RequestError, Unavailable, UnknownName
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import Scene, View
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.sessions.action_chunking import ObservationWindow
from vla_server_base.testing import EchoAdapter

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def url():
    config = ServerConfig(renderer="raycast", scene_workers=1)
    with serving(create_vla_app(EchoAdapter(), config, model_id="echo")) as base_url:
        while httpx.get(f"{base_url}/info").json()["model_status"] != "loaded":
            pass
        yield base_url


async def actions(policy, pool):
    scene, task = Scene(xml=bundled_scene("widowx", "tabletop")), Task(instruction="lift")
    settings = EpisodeSettings(max_steps=4, seed=5, view=View(height=16, width=16))
    return [event.action async for event in play(policy, pool, scene, task, settings) if isinstance(event, EpisodeStep)]


async def test_an_episode_over_http_is_the_episode_of_the_adapter(pool, url):
    async with load_policy(EchoAdapter(), "echo") as here, HttpPolicy(url) as there:
        np.testing.assert_allclose(await actions(there, pool), await actions(here, pool), rtol=1e-12)


async def test_a_server_elsewhere_gets_the_whole_window(url):
    history = ObservationWindow(2)
    grey = Observation(images={"primary": np.full((8, 8, 3), 51, np.uint8)})
    first, second = history.append(grey), history.append(grey)
    async with HttpPolicy(url) as policy:
        one, two = [await policy.predict(window, Task(instruction="x"), 0, 0) for window in (first, second)]
    # EchoAdapter's sixth number: how many observations are not padding.
    assert (one[0, 5], two[0, 5]) == (1.0, 2.0)


async def test_what_a_server_refuses_is_said_in_its_own_words(url):
    async with HttpPolicy(url, dataset="nobodys") as policy:
        window = ObservationWindow(2).append(Observation(images={"primary": np.zeros((8, 8, 3), np.uint8)}))
        with pytest.raises(RequestError, match="dataset 'nobodys' is not known"):
            await policy.predict(window, Task(instruction="x"), 0, 0)


async def test_a_shorter_window_is_padded_with_what_is_seen_last(pool):
    async with load_policy(EchoAdapter(), "echo") as policy:
        one = await actions(LastObservations(policy, 1), pool)
        two = await actions(LastObservations(policy, 2), pool)
        whole = await actions(policy, pool)
    # EchoAdapter's sixth number again.
    assert [action[5] for action in one] == [1.0] * 4
    assert [action[5] for action in two] == [1.0, 2.0, 2.0, 2.0]
    np.testing.assert_array_equal(two, whole)


async def test_an_unknown_dataset_is_refused_with_the_known_ones():
    with pytest.raises(UnknownName, match="moon") as refusal:
        async with load_policy(EchoAdapter(), "echo", dataset="moon"):
            pass
    assert "echo_doubled" in (refusal.value.hint or "")


@pytest.mark.parametrize("length", [0, 3])
async def test_a_window_that_the_policy_does_not_have_is_refused(length):
    async with load_policy(EchoAdapter(), "echo") as policy:
        with pytest.raises(RequestError, match="expected 1 to 2 observations"):
            LastObservations(policy, length)


async def test_no_server_is_unavailable():
    with pytest.raises(Unavailable, match="no policy server answers"):
        async with HttpPolicy("http://127.0.0.1:9"):
            pass


def test_actions_that_move_no_end_effector_are_refused():
    with pytest.raises(RequestError, match="does not move an end effector"):
        check_drives_arm(("joint1", "joint2"))
