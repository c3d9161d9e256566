"""An evaluation says what a policy did: experts that hear, that do not, and that do nothing come out as such."""

import dataclasses
from dataclasses import replace

import httpx
import numpy as np
import pytest

from vla_server_base.config import ServerConfig
from vla_server_base.episodes.policies import HttpPolicy, load_policy
from vla_server_base.episodes.settings import EpisodeSettings
from vla_server_base.errors import Unavailable
from vla_server_base.scenes.messages import RenderedView, RolloutRequest, SceneState, View
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.tabletop.evaluation import LocalEpisodes, evaluate, grounding_trials
from vla_server_base.tabletop.experts import expert_action
from vla_server_base.tabletop.paraphrases import paraphrases
from vla_server_base.tabletop.remote_episodes import RemoteEpisodes
from vla_server_base.tabletop.summary import grounding_table
from vla_server_base.tabletop.tables import OBJECTS, TABLES, read_state
from vla_server_base.tabletop.tasks import TASKS
from vla_server_base.tabletop.trials import draw_trial
from vla_server_base.testing import EchoAdapter

pytestmark = pytest.mark.anyio
PANDA = TABLES["panda"]
ONE_CAMERA = replace(EchoAdapter().spec, cameras=EchoAdapter().spec.cameras[:1], proprio_dim=None)
MEANING = {
    instruction: task
    for task in TASKS.values()
    for split in ("train", "held_out")
    for instruction in paraphrases(task, split)
}
SETTINGS = EpisodeSettings(max_steps=40)
RED = TASKS["pick_up_red_cube"]


class NumberedWorld:
    """The pool's physics, seen through a camera whose only pixel numbers the state that it shows."""

    def __init__(self, pool):
        self._pool, self.states = pool, []

    async def roll_out(self, scene, request):
        reply = await self._pool.roll_out(scene, replace(request, view=None))
        last = reply.steps[-1] if reply.steps else reply
        self.states.append((last.state, last.pose))
        pixel = np.frombuffer((len(self.states) - 1).to_bytes(3, "big"), np.uint8).reshape(1, 1, 3)
        return replace(
            reply, view=RenderedView(images={"primary": pixel}, cameras={"primary": "primary"}, geom_groups=(0,))
        )


class ExpertPolicy:
    """The scripted expert as a policy: it knows the numbered world's states, and does what it `hears`."""

    window, cameras, spec = 1, ("primary",), replace(ONE_CAMERA, window=1)

    def __init__(self, world, hears=MEANING.__getitem__):
        self._world, self._hears = world, hears

    async def predict(self, window, task, seed, step):
        number = int.from_bytes(window.observations[-1].images["primary"].tobytes(), "big")
        state = read_state(PANDA, *self._world.states[number])
        return expert_action(state, self._hears(task.instruction))[None]


class Idle:
    """A policy that stays where it is."""

    window, cameras, spec = 2, ("primary",), ONE_CAMERA

    async def predict(self, window, task, seed, step):
        return np.array([[0, 0, 0, 0, 0, 0, 1.0]] * 4)


async def results(episodes, trials, settings=SETTINGS, num_at_once=2):
    return [played.result async for played in evaluate(episodes, trials, settings, num_at_once=num_at_once)]


def expert(pool, **hearing):
    world = NumberedWorld(pool)
    return LocalEpisodes(policy=ExpertPolicy(world, **hearing), world=world)


@pytest.mark.parametrize(
    ("name", "split", "lifted"),
    [
        ("pick_up_green_sphere", "held_out", ("green_sphere",)),
        ("push_left_red_cube", "train", ()),
        ("put_on_red_cube_blue_cube", "train", ("red_cube",)),
    ],
)
async def test_an_expert_succeeds_and_the_moved_object_is_known(pool, name, split, lifted):
    (result,) = await results(expert(pool), [draw_trial(TASKS[name], 100, split=split, jitter=False)])
    assert (result.success, result.reason, result.lifted) == (True, "success", lifted)
    assert result.moved == TASKS[name].object
    assert 5 < result.num_steps < SETTINGS.max_steps
    assert result.instruction in paraphrases(TASKS[name], split)


async def test_one_scene_with_three_instructions_shows_who_is_grounded(pool):
    trials = list(grounding_trials([3]))
    assert len({trial.scene.key for trial in trials}) == len({trial.start.qpos.tobytes() for trial in trials}) == 1
    grounded, ungrounded = expert(pool), expert(pool, hears=lambda _: RED)
    brief = replace(SETTINGS, max_steps=22)
    followed = await results(grounded, trials, brief)
    assert sorted(result.lifted for result in followed) == [("blue_cube",), ("green_sphere",), ("red_cube",)]
    assert all(result.success for result in followed)
    ignored = await results(ungrounded, trials, brief)
    assert [result.lifted for result in ignored] == [("red_cube",)] * 3
    assert {result.task for result in ignored if result.success} == {"pick_up_red_cube"}
    assert "| blue_cube | 1 | 0 | 0 | 0 |" in grounding_table(ignored)


async def test_a_trial_comes_out_the_same_alone_and_among_others(pool):
    trials = [draw_trial(RED, seed, jitter=False) for seed in (1, 2, 3)]
    alone = await results(expert(pool), trials, replace(SETTINGS, max_steps=8), num_at_once=1)
    among = await results(expert(pool), trials, replace(SETTINGS, max_steps=8), num_at_once=3)
    assert [outcome(result) for result in alone] == sorted(map(outcome, among), key=lambda result: result["seed"])


def outcome(result):
    return {
        name: value for name, value in dataclasses.asdict(result).items() if name not in ("predict_ms", "duration_s")
    }


async def test_a_policy_that_does_nothing_moves_nothing_and_its_video_shows_both_cameras(pool):
    here = LocalEpisodes(policy=Idle(), world=pool)
    shown = replace(SETTINGS, max_steps=2, execution_horizon=4, with_images=True, view=View(height=32, width=32))
    (played,) = [played async for played in evaluate(here, [draw_trial(RED, 0)], shown)]
    assert (played.result.success, played.result.moved, played.result.lifted) == (False, None, ())
    assert (played.result.reason, played.result.num_steps) == ("max_steps", 2)
    assert played.video[:4] == b"RIFF"


async def test_what_goes_wrong_in_one_trial_ends_the_evaluation_and_the_trials_beside_it(pool):
    class Failing(Idle):
        num_asked = 0

        async def predict(self, window, task, seed, step):
            self.num_asked += 1
            if step == 1 and seed == 1:
                raise Unavailable("the policy is gone", hint="start it again")
            return (await super().predict(window, task, seed, step))[:1]

    policy = Failing()
    trials = [draw_trial(RED, seed, jitter=False) for seed in (1, 2)]
    with pytest.raises(Unavailable, match="the policy is gone"):
        await results(LocalEpisodes(policy=policy, world=NumberedWorld(pool)), trials)
    assert policy.num_asked < SETTINGS.max_steps


class Upwards(EchoAdapter):
    """A policy that keeps its gripper shut and goes up."""

    def predict(self, batch):
        return [np.tile([0, 0, 0.04, 0, 0, 0, 0.0], (policy_input.num_samples, 4, 1)) for policy_input in batch]


@pytest.fixture
def url():
    with serving(create_vla_app(Upwards(), ServerConfig(renderer="raycast", scene_workers=1), model_id="up")) as url:
        while httpx.get(f"{url}/info").json()["model_status"] != "loaded":
            pass
        yield url


async def held_by_the_gripper(pool, trial):
    """Return the trial as it stands when the expert has begun to lift."""
    state = trial.start
    reply = await pool.roll_out(trial.scene, RolloutRequest(start=state))
    now, pose = reply.state, reply.pose
    while read_state(PANDA, now, pose).objects[trial.task.object].position[2] < PANDA.half_size + 0.02:
        action = expert_action(read_state(PANDA, now, pose), trial.task)
        reply = await pool.roll_out(trial.scene, RolloutRequest(start=reply.end, actions=action[None]))
        now, pose = reply.steps[0].state, reply.steps[0].pose
    return replace(trial, start=SceneState(qpos=now.qpos, qvel=now.qvel, ctrl=now.ctrl))


async def test_a_server_that_plays_whole_episodes_comes_to_the_same_results(pool, url):
    trials = [await held_by_the_gripper(pool, draw_trial(RED, 0, jitter=False)), draw_trial(RED, 1, jitter=False)]
    settings = replace(SETTINGS, max_steps=4, execution_horizon=2, latency_s=0.1)
    async with load_policy(Upwards(), "up") as policy:
        here = await results(LocalEpisodes(policy=policy, world=pool), trials, settings, num_at_once=1)
    async with HttpPolicy(url) as server:
        shown = replace(settings, with_images=True)
        there = [played async for played in evaluate(RemoteEpisodes(server=server), trials, shown, num_at_once=1)]
    assert [outcome(played.result) for played in there] == [outcome(result) for result in here]
    assert [(result.success, result.lifted) for result in here] == [(True, ("red_cube",)), (False, ())]
    assert [played.video and played.video[:4] for played in there] == [None, b"RIFF"]


def test_each_object_can_be_asked_for_in_the_suites_scenes():
    named = [trial.task.object for trial in grounding_trials([1_000_000], split="held_out")]
    assert tuple(named) == OBJECTS
