"""Demonstrations hold what a policy would have seen, and come out the same each time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla_server_base.errors import RequestError
from vla_server_base.scenes.messages import RolloutRequest, View
from vla_server_base.tabletop.dagger import Disturbances, RollInPolicy
from vla_server_base.tabletop.demonstrations import Demonstrations, DemonstrationSettings, demonstrate
from vla_server_base.tabletop.paraphrases import paraphrases
from vla_server_base.tabletop.tables import OBJECTS
from vla_server_base.tabletop.tasks import TASKS
from vla_server_base.tabletop.trials import draw_trial
from vla_server_base.testing import EchoAdapter

pytestmark = pytest.mark.anyio
SMALL = DemonstrationSettings(view=View(height=32, width=32), image_sides={"primary": 32, "wrist": 16})
PICK = TASKS["pick_up_red_cube"]
ONE_CAMERA = replace(EchoAdapter().spec, cameras=EchoAdapter().spec.cameras[:1], proprio_dim=None)


async def test_the_same_seed_gives_the_same_demonstration_bit_for_bit(pool):
    first, again = [await demonstrate(pool, draw_trial(PICK, 5), SMALL) for _ in range(2)]
    assert len(first.steps) == len(again.steps)
    for one, other in zip(first.steps, again.steps, strict=True):
        np.testing.assert_array_equal(one.executed, other.executed)
        np.testing.assert_array_equal(one.label, other.label)
        np.testing.assert_array_equal(one.observation.proprio, other.observation.proprio)
        for name in ("primary", "wrist"):
            np.testing.assert_array_equal(one.observation.images[name], other.observation.images[name])


async def test_a_step_holds_images_of_each_size_and_proprio(pool):
    demonstration = await demonstrate(pool, draw_trial(PICK, 6), SMALL)
    shapes = {name: image.shape for name, image in demonstration.steps[0].observation.images.items()}
    assert shapes == {"primary": (32, 32, 3), "wrist": (16, 16, 3)}
    openings = [step.observation.proprio[7] for step in demonstration.steps]
    assert openings[0] == pytest.approx(1.0)
    assert openings[-1] == pytest.approx(0.05 / 0.08, abs=0.05), "the cube is between the pads"
    assert demonstration.trial.instruction


async def test_images_are_rendered_before_the_action(pool):
    nothing = DemonstrationSettings(max_steps=2, steps_after=0, view=SMALL.view, image_sides={}, disturbances=None)
    steps = (await demonstrate(pool, draw_trial(PICK, 6), nothing)).steps
    np.testing.assert_allclose(steps[0].observation.proprio[:7], draw_trial(PICK, 6).start.qpos[:7], atol=1e-9)
    assert np.abs(steps[1].observation.proprio - steps[0].observation.proprio).max() > 1e-3


async def test_failures_are_left_out_and_counted(pool):
    short = DemonstrationSettings(max_steps=15, view=None, disturbances=None)
    trials = [draw_trial(PICK, seed, jitter=False) for seed in (2, 3, 4, 5)]
    successful = Demonstrations(pool, trials, short)
    kept = [demonstration async for demonstration in successful]
    every = [demonstration async for demonstration in Demonstrations(pool, trials, short, keep_failures=True)]
    assert successful.num_made == len(every) == 4
    assert 0 < successful.num_failed < 4
    assert [kept_one.trial.seed for kept_one in kept] == [made.trial.seed for made in every if made.success]
    assert len(kept) == 4 - successful.num_failed


async def test_a_demonstration_goes_on_for_some_steps_after_the_task_is_done(pool):
    trial = draw_trial(PICK, 0, jitter=False)
    lengths = []
    for steps_after in (0, 3):
        settings = DemonstrationSettings(steps_after=steps_after, view=None, disturbances=None)
        lengths.append(len((await demonstrate(pool, trial, settings)).steps))
    assert lengths[1] == lengths[0] + 3


async def test_disturbed_actions_stay_within_what_an_expert_may_do(pool):
    wild = DemonstrationSettings(max_steps=20, view=None, disturbances=Disturbances(nudge_rate=0.5, nudge_m=0.1))
    steps = (await demonstrate(pool, draw_trial(PICK, 0, jitter=False), wild)).steps
    assert max(np.linalg.norm(step.executed[:3]) for step in steps) <= 0.04 + 1e-9
    assert any((step.executed != step.label).any() for step in steps)


class Sinking:
    """A policy that goes down and opens the gripper, two actions at a time, and keeps what it was shown."""

    window = 2
    cameras = ("primary",)
    spec = ONE_CAMERA

    def __init__(self):
        self.shown = []

    async def predict(self, window, task, seed, step):
        self.shown.append((window, task, seed, step))
        return np.tile([0, 0, -0.01, 0, 0, 0, 1.0], (2, 1))


def rolled_in(policy=None, **fields) -> DemonstrationSettings:
    return replace(SMALL, max_steps=8, steps_after=0, roll_in=RollInPolicy(policy=policy or Sinking(), **fields))


async def test_a_policy_acts_first_and_the_expert_labels_and_continues(pool):
    trial = next(trial for seed in range(99) if rolled_in().roll_in.num_steps(trial := draw_trial(PICK, seed), 8) == 5)
    settings = replace(rolled_in(), disturbances=None)
    steps = (await demonstrate(pool, trial, settings)).steps
    assert [step.expert_drove for step in steps] == [False] * 5 + [True] * 3
    for step in steps[:5]:
        np.testing.assert_array_equal(step.executed, [0, 0, -0.01, 0, 0, 0, 1.0])
        assert (step.label[:3] != step.executed[:3]).any()
    for step in steps[5:]:
        np.testing.assert_array_equal(step.executed, step.label)


async def test_a_roll_in_policy_sees_what_it_sees_in_an_episode(pool):
    policy = Sinking()
    trial = draw_trial(PICK, 1)
    demonstration = await demonstrate(pool, trial, rolled_in(policy, max_steps=None, execution_horizon=2))
    windows, tasks, seeds, steps = zip(*policy.shown, strict=True)
    assert (steps, set(seeds), {task.instruction for task in tasks}) == ((0, 2, 4, 6), {1}, {trial.instruction})
    assert [window.timestep_pad_mask.tolist() for window in windows] == [[False, True]] + [[True, True]] * 3
    for window, step in zip(windows, steps, strict=True):
        assert window.observations[-1].images.keys() == {"primary"}
        seen = demonstration.steps[step].observation.images["primary"]
        np.testing.assert_array_equal(window.observations[-1].images["primary"], seen)


async def test_a_roll_in_policy_needs_chunks_of_the_execution_horizon(pool):
    with pytest.raises(RequestError, match=r"execution_horizon: expected at most 2, .*, got 3"):
        await demonstrate(pool, draw_trial(PICK, 1), rolled_in(max_steps=None, execution_horizon=3))


def test_the_steps_of_a_roll_in_follow_from_the_seed():
    roll_in = RollInPolicy(policy=Sinking(), share=0.5, max_steps=3)
    trials = [replace(draw_trial(PICK, 0), seed=seed) for seed in range(400)]
    drawn = [[roll_in.num_steps(trial, 100) for trial in trials] for _ in range(2)]
    assert drawn[0] == drawn[1]
    counts = np.bincount(drawn[0], minlength=4) / 400
    np.testing.assert_allclose(counts, [0.5 + 0.125, 0.125, 0.125, 0.125], atol=0.06)
    throughout = RollInPolicy(policy=Sinking(), max_steps=None)
    assert throughout.num_steps(trials[0], 100) == 100


async def test_failures_of_a_policy_that_drove_to_the_end_are_kept(pool):
    trials = [draw_trial(PICK, 0)]
    for max_steps, num_kept in ((None, 1), (0, 0)):
        making = Demonstrations(pool, trials, replace(rolled_in(max_steps=max_steps), disturbances=None))
        assert len([demonstration async for demonstration in making]) == num_kept
        assert making.num_failed == 1


async def test_a_demonstration_is_recorded_with_the_experts_labels(pool):
    trial = draw_trial(PICK, 3)
    demonstration = await demonstrate(pool, trial, rolled_in(max_steps=3))
    episode = demonstration.recorded()
    np.testing.assert_array_equal(episode.actions, np.array([step.label for step in demonstration.steps], np.float32))
    assert episode.images["wrist"].shape == (8, 16, 16, 3)
    assert episode.proprio.shape == (8, 8)
    assert episode.proprio_names == (*(f"joint{number}" for number in range(1, 8)), "gripper")
    assert episode.action_names == ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
    assert episode.expert_drove.tolist() == [step.expert_drove for step in demonstration.steps]
    assert episode.instruction == trial.instruction
    assert episode.metadata == {"task": "pick_up_red_cube", "seed": 3, "robot": "panda", "success": False}


async def test_a_random_view_has_resampled_objects_and_the_experts_action(pool):
    settings = replace(SMALL, max_steps=4, steps_after=0, random_views=2)
    first, again = [await demonstrate(pool, draw_trial(PICK, 5), settings) for _ in range(2)]
    assert len(first.random_views) == 2 * len(first.steps)
    for number, (view, same) in enumerate(zip(first.random_views, again.random_views, strict=True)):
        assert view.trial.task in TASKS.values()
        assert view.trial.instruction in paraphrases(view.trial.task)
        (step,), taken_at = view.steps, first.steps[number // 2]
        assert step.observation.proprio is not None
        assert taken_at.observation.proprio is not None
        np.testing.assert_allclose(step.observation.proprio, taken_at.observation.proprio, atol=1e-6)
        assert (step.environment_state != taken_at.environment_state).any()
        np.testing.assert_array_equal(step.observation.images["wrist"], same.steps[0].observation.images["wrist"])
        np.testing.assert_array_equal(step.label, same.steps[0].label)
        # Nothing follows from its action, so that it teaches no more than that one.
        assert view.recorded().expert_drove.tolist() == [False]
    assert len({view.trial.task.name for view in first.random_views}) > 2
    assert len({view.steps[0].label.tobytes() for view in first.random_views}) == len(first.random_views)
    without = await demonstrate(pool, draw_trial(PICK, 5), replace(settings, random_views=0))
    np.testing.assert_array_equal(first.steps[-1].label, without.steps[-1].label)


@pytest.mark.parametrize("name", ["pick_up_blue_cube", "put_on_green_sphere_blue_cube"])
async def test_the_environment_state_is_where_things_are_from_the_gripper_named_ones_first(pool, name):
    trial = draw_trial(TASKS[name], 5)
    start = await pool.roll_out(trial.scene, RolloutRequest(start=trial.start))
    numbers = (await demonstrate(pool, trial, replace(SMALL, max_steps=1, steps_after=0))).steps[0].environment_state
    things = trial.start.qpos[9:].reshape(3, 7)[:, :3] - start.pose.position
    named = [OBJECTS.index(trial.task.object), OBJECTS.index(trial.task.target or trial.task.object)]
    np.testing.assert_allclose(numbers[:15].reshape(5, 3), [*things[named], *things], atol=1e-6)
    assert numbers[15] == pytest.approx(1.0)


async def test_images_are_resized_as_the_settings_say(pool):
    def corner(image, height, width):
        return image[:height, :width].copy()

    trial, settings = draw_trial(PICK, 6), replace(SMALL, max_steps=1, steps_after=0)
    whole = await demonstrate(pool, trial, replace(settings, image_sides={"primary": 32, "wrist": 32}))
    cut = await demonstrate(pool, trial, replace(settings, resize=corner))
    drawn = whole.steps[0].observation.images["wrist"]
    np.testing.assert_array_equal(cut.steps[0].observation.images["wrist"], drawn[:16, :16])


def test_every_task_is_documented():
    page = (Path(__file__).parents[3] / "docs" / "tabletop.md").read_text()
    assert [name for name in TASKS if f"| {name} |" not in page] == []
