"""docs/scenes.md tells the truth about names and numbers."""

from pathlib import Path

import mujoco
from bundled_arm import ARM_JOINTS, FINGER_JOINTS, ROBOTS, BundledArm

SCENES_MD = Path(__file__).parents[4] / "docs" / "scenes.md"
KINDS = (
    mujoco.mjtObj.mjOBJ_CAMERA,
    mujoco.mjtObj.mjOBJ_SITE,
    mujoco.mjtObj.mjOBJ_ACTUATOR,
    mujoco.mjtObj.mjOBJ_KEY,
)
COUNTS = ("ncam", "nsite", "nu", "nkey")
# Written with an ellipsis: joint1 ... joint7.
NUMBERED = {f"{kind}{number}" for kind in ("joint", "link") for number in range(1, 7)}


def test_every_name_of_a_scene_is_documented(arm: BundledArm):
    text = SCENES_MD.read_text(encoding="utf-8")
    names = {
        mujoco.mj_id2name(arm.model, kind, index)
        for kind, count in zip(KINDS, COUNTS, strict=True)
        for index in range(getattr(arm.model, count))
    }
    names |= {arm.model.body(index).name for index in range(1, arm.model.nbody)}
    names |= {*ARM_JOINTS[arm.robot], *FINGER_JOINTS[arm.robot]}
    assert [name for name in sorted(names - NUMBERED) if f"`{name}`" not in text] == []


def test_the_table_gives_the_simulations_numbers(arm: BundledArm):
    rows = {}
    for line in SCENES_MD.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3:
            rows[cells[0]] = cells[1 + ROBOTS.index(arm.robot)]

    x, _, z = arm.data.site("ee").xpos
    assert rows["`ee` at `home`"] == f"{x:.3f}, 0, {z:.3f} m"
    assert rows["`gripper` control"].startswith(f"0 closed ... {arm.gripper.ctrlrange[1]:g} open")
    assert rows["qpos, ctrl"] == f"{arm.model.nq - 23} + 2 + 3 x 7, {arm.model.nu} numbers"
    assert rows["between the pads"] == f"{_gap_mm(arm, 0.0)} ... {_gap_mm(arm, 1.0)} mm"


def _gap_mm(arm: BundledArm, fraction: float) -> int:
    arm.open_gripper(fraction, seconds=1.0)
    left, right = (arm.data.geom(f"{side}_pad") for side in ("left", "right"))
    thickness = 2 * arm.model.geom("left_pad").size[1]
    opening_axis = arm.data.site("ee").xmat.reshape(3, 3)[:, 1]
    return round(1000 * (abs(opening_axis @ (left.xpos - right.xpos)) - thickness))
