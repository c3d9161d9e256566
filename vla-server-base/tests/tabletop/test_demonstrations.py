"""Demonstrations hold what a policy would have seen, and come out the same each time."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vla_server_base.scenes.messages import View
from vla_server_base.tabletop.demonstrations import Demonstrations, DemonstrationSettings, Disturbances, demonstrate
from vla_server_base.tabletop.tasks import TASKS
from vla_server_base.tabletop.trials import draw_trial

pytestmark = pytest.mark.anyio
SMALL = DemonstrationSettings(view=View(height=32, width=32), picture_sides={"primary": 32, "wrist": 16})
PICK = TASKS["pick_up_red_cube"]


async def test_the_same_seed_gives_the_same_demonstration_bit_for_bit(pool):
    first, again = [await demonstrate(pool, draw_trial(PICK, 5), SMALL) for _ in range(2)]
    assert len(first.steps) == len(again.steps)
    for one, other in zip(first.steps, again.steps, strict=True):
        np.testing.assert_array_equal(one.executed, other.executed)
        np.testing.assert_array_equal(one.label, other.label)
        np.testing.assert_array_equal(one.observation.proprio, other.observation.proprio)
        for name in ("primary", "wrist"):
            np.testing.assert_array_equal(one.observation.images[name], other.observation.images[name])


async def test_a_step_holds_pictures_of_each_size_and_proprio(pool):
    demonstration = await demonstrate(pool, draw_trial(PICK, 6), SMALL)
    shapes = {name: image.shape for name, image in demonstration.steps[0].observation.images.items()}
    assert shapes == {"primary": (32, 32, 3), "wrist": (16, 16, 3)}
    openness = [step.observation.proprio[7] for step in demonstration.steps]
    assert openness[0] == pytest.approx(1.0)
    assert openness[-1] == pytest.approx(0.05 / 0.08, abs=0.02), "the cube is between the pads"
    assert demonstration.trial.instruction


async def test_pictures_are_taken_before_the_action(pool):
    nothing = DemonstrationSettings(max_steps=2, steps_after=0, view=SMALL.view, picture_sides={}, disturbances=None)
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
    assert [found.trial.seed for found in kept] == [found.trial.seed for found in every if found.success]
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


async def test_the_documents_script_prints_what_it_says(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "tabletop.md").read_text()
    ((code, printed),) = re.findall(r"```python\n(.*?)```\n```\n(.*?)```", page, re.DOTALL)
    script = tmp_path / "script.py"
    script.write_text(code)
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert run.stdout == printed, run.stderr


def test_every_task_is_documented():
    page = (Path(__file__).parents[3] / "docs" / "tabletop.md").read_text()
    assert [name for name in TASKS if f"| {name} |" not in page] == []
