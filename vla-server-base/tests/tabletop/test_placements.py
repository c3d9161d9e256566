"""Objects are placed within reach, with clearance, so that the task is possible; lights and cameras vary."""

import numpy as np
import pytest

from vla_server_base.scenes.messages import RenderRequest, RolloutRequest, View
from vla_server_base.tabletop.placements import resample_objects
from vla_server_base.tabletop.tables import NUM_FINGERS, OBJECTS, TABLES, read_state
from vla_server_base.tabletop.tasks import PUSHED_M, TASKS
from vla_server_base.tabletop.trials import draw_trial
from vla_server_base.tabletop.variants import NUM_VARIANTS, scene_variant

SEEDS = range(50)


def places(trial) -> dict[str, np.ndarray]:
    free = trial.start.qpos[trial.table.num_joints + NUM_FINGERS :].reshape(-1, 7)
    return dict(zip(OBJECTS, free[:, :2], strict=True))


@pytest.mark.parametrize("robot", TABLES)
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_objects_never_overlap_and_lie_in_reach(task, robot):
    for trial in (draw_trial(task, seed, robot=robot) for seed in SEEDS):
        red, blue, green = places(trial).values()
        nearest = min(np.linalg.norm(a - b) for a, b in ((red, blue), (blue, green), (green, red)))
        assert nearest > 2 * np.sqrt(2) * trial.table.half_size, "the circles around two cubes"
        assert all(trial.table.x[0] <= x <= trial.table.x[1] for x, _ in places(trial).values())
        assert all(trial.table.y[0] <= y <= trial.table.y[1] for _, y in places(trial).values())


@pytest.mark.parametrize("robot", TABLES)
def test_objects_are_resampled_around_an_arm_that_may_hold_one(robot):
    table = TABLES[robot]
    qpos = draw_trial(TASKS["pick_up_red_cube"], 0, robot=robot).start.qpos
    assert qpos is not None
    gripper, random = np.array([np.mean(table.x), 0, 0.15]), np.random.default_rng(0)
    qpos[table.num_joints + NUM_FINGERS :][:3] = gripper
    held = np.zeros(len(OBJECTS))
    for _ in range(400):
        resampled = resample_objects(qpos, table, gripper, random)
        np.testing.assert_array_equal(resampled[: table.num_joints], qpos[: table.num_joints])
        positions = resampled[table.num_joints + NUM_FINGERS :].reshape(-1, 7)[:, :3]
        in_air = positions[:, 2] > 3.5 * table.half_size
        held += in_air
        assert all((position == gripper).all() for position in positions[in_air])
        on_table = positions[positions[:, 2] < 1.1 * table.half_size, :2]
        distances = [np.linalg.norm(a - b) for i, a in enumerate(on_table) for b in on_table[:i]]
        assert min(distances, default=1) > 2 * np.sqrt(2) * table.half_size
        stacked = (positions[:, 2] > 1.1 * table.half_size) & ~in_air
        assert stacked.sum() + in_air.sum() <= 1
    any_as_often_and_none_now_and_then = 0.65 / 3
    np.testing.assert_allclose(held / 400, any_as_often_and_none_now_and_then, atol=0.08)


@pytest.mark.parametrize("name", ["push_left_red_cube", "push_right_green_sphere"])
def test_a_push_has_room(name):
    task = TASKS[name]
    for trial in (draw_trial(task, seed) for seed in SEEDS):
        at = places(trial)
        pushed = at.pop(task.object)
        way = pushed + np.linspace(0, PUSHED_M, 20)[:, None] * np.array(task.direction[:2])
        assert trial.table.y[0] <= way[-1, 1] <= trial.table.y[1]
        assert min(np.linalg.norm(way - other, axis=1).min() for other in at.values()) > 0.07


def test_the_same_seed_gives_the_same_trial_and_another_one_another():
    task = TASKS["pick_up_red_cube"]
    first, again, other = (draw_trial(task, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.start.qpos, again.start.qpos)
    assert (first.scene.key, first.instruction) == (again.scene.key, again.instruction)
    assert np.abs(first.start.qpos - other.start.qpos).max() > 0.01


def test_instruction_and_lights_do_not_move_the_objects():
    task = TASKS["put_on_red_cube_blue_cube"]
    trained, held_out, ppositions = (
        draw_trial(task, 5),
        draw_trial(task, 5, split="held_out"),
        draw_trial(task, 5, jitter=False),
    )
    assert trained.instruction != held_out.instruction
    assert trained.scene.key != ppositions.scene.key
    np.testing.assert_array_equal(trained.start.qpos, held_out.start.qpos)
    np.testing.assert_array_equal(trained.start.qpos, ppositions.start.qpos)


def test_trials_use_a_moderate_number_of_scenes():
    keys = {draw_trial(TASKS["pick_up_red_cube"], seed).scene.key for seed in range(400)}
    assert 50 < len(keys) <= NUM_VARIANTS


@pytest.mark.anyio
@pytest.mark.parametrize("robot", TABLES)
async def test_variants_compile_and_look_different_but_are_the_same_physics(pool, robot):
    view = View(height=48, width=48)
    images, starts = [], []
    for variant in (None, 0, 1):
        scene = scene_variant(robot, variant)
        images.append((await pool.render(scene, RenderRequest(view=view))).view.images["primary"].astype(int))
        trial = draw_trial(TASKS["pick_up_red_cube"], 0, robot=robot)
        starts.append(await pool.roll_out(scene, RolloutRequest(start=trial.start, actions=np.full((2, 7), 0.01))))
    assert np.abs(images[0] - images[1]).mean() > 2
    assert np.abs(images[1] - images[2]).mean() > 2
    np.testing.assert_array_equal(starts[0].end.physics, starts[1].end.physics)


@pytest.mark.anyio
@pytest.mark.parametrize("robot", TABLES)
async def test_a_start_is_at_rest_and_read_as_it_was_placed(pool, robot):
    trial = draw_trial(TASKS["pick_up_red_cube"], 1, robot=robot, jitter=False)
    reply = await pool.roll_out(trial.scene, RolloutRequest(start=trial.start, hold_s=1.0))
    state = read_state(trial.table, reply.state, reply.pose)
    for name, place in places(trial).items():
        np.testing.assert_allclose(state.objects[name].position[:2], place, atol=2e-3)
        assert state.objects[name].position[2] == pytest.approx(trial.table.half_size, abs=1e-3)
    assert state.gap == pytest.approx(trial.table.open_gap, abs=1e-3)
    np.testing.assert_allclose(state.axes[:, 2], [0, 0, -1], atol=5e-3)
