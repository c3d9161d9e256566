"""The monitor measures what a request names, and notes every bound that a step exceeds."""

import mujoco
import numpy as np
import pytest

from vla_server_base.errors import UnknownName
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import Bounds, Measure, MeasureKind
from vla_server_base.scenes.worker.arms.arm_search import find_arm
from vla_server_base.scenes.worker.simulation.monitor import CHECK_EVERY, Monitor

STACK = """<mujoco><worldbody><geom name="floor" type="plane" size="5 5 1"/>
<body name="low" pos="0 0 0.1"><freejoint/><geom type="box" size="0.1 0.1 0.1" mass="2"/></body>
<body name="high" pos="0 0 0.299"><freejoint/><geom type="box" size="0.1 0.1 0.1" mass="1"/></body>
<body name="post" pos="3 4 1"><joint name="slide" type="slide"/><geom size="0.1" contype="0" conaffinity="0"/></body>
</worldbody><keyframe><key qpos="0 0 0.1 1 0 0 0  0 0 0.299 1 0 0 0  0.25"/></keyframe></mujoco>"""


@pytest.fixture(scope="module")
def stack():
    model = mujoco.MjModel.from_xml_string(STACK)
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    for _ in range(500):
        mujoco.mj_step(model, data)
        data.qpos[-1], data.qvel[-1] = 0.25, 0
    mujoco.mj_forward(model, data)
    return model, data


def measured(stack, kind: MeasureKind, *names: str, **rest) -> float:
    model, data = stack
    (value,) = Monitor(model, data, None, Bounds(), (Measure(kind=kind, names=names, **rest),)).measure()
    return value


def test_heights_distances_and_joints_are_of_bodies_origins_in_the_world(stack):
    assert measured(stack, "height", "low") == pytest.approx(0.1, abs=2e-3)
    assert measured(stack, "above", "high", "low") == pytest.approx(0.2, abs=2e-3)
    assert measured(stack, "distance", "post", "world") == pytest.approx(np.sqrt(9 + 16 + 1.25**2))
    assert measured(stack, "horizontal_distance", "post", "world") == pytest.approx(5)
    assert measured(stack, "along", "post", direction=(0.6, 0.8, 0.0)) == pytest.approx(5)
    assert measured(stack, "joint", "slide") == pytest.approx(0.25)


def test_a_contact_is_measured_by_how_hard_two_bodies_press(stack):
    assert measured(stack, "contact", "high", "low") == pytest.approx(9.81, rel=0.05)
    assert measured(stack, "contact", "low", "high") == pytest.approx(9.81, rel=0.05)
    assert measured(stack, "contact", "low", "world") == pytest.approx(3 * 9.81, rel=0.05)
    assert measured(stack, "contact", "high", "world") == 0


@pytest.mark.parametrize(
    ("kind", "code", "known"), [("height", "unknown_body", "high"), ("joint", "unknown_joint", "slide")]
)
def test_a_name_that_the_scene_lacks_is_refused_with_those_that_it_has(stack, kind, code, known):
    with pytest.raises(UnknownName) as caught:
        measured(stack, kind, "nothing")
    assert caught.value.code == code
    assert known in caught.value.hint


class StandingArm:
    """A bundled arm at home, whose monitor is updated by hand."""

    def __init__(self, **bounds):
        self.model = mujoco.MjModel.from_xml_string(bundled_scene("panda", "tabletop"))
        self.data = mujoco.MjData(self.model)
        self.arm = find_arm(self.model, None)
        mujoco.mj_resetDataKeyframe(self.model, self.data, self.model.key("home").id)
        mujoco.mj_forward(self.model, self.data)
        self.metrics = Monitor(self.model, self.data, self.arm, Bounds(**bounds), ()).start_step()

    def violations(self) -> list[tuple[str, str]]:
        return [(violation.kind, violation.what) for violation in self.metrics.violations()]


def test_a_joint_that_moves_faster_than_its_bound_is_named_with_its_speed():
    arm = StandingArm(max_joint_speed=1.0)
    arm.data.joint("joint3").qvel[0] = -1.5
    arm.metrics.update(is_last=False)
    arm.data.joint("joint3").qvel[0] = 0.0
    arm.metrics.update(is_last=True)
    (violation,) = arm.metrics.violations()
    assert (violation.kind, violation.what, violation.value, violation.limit) == ("velocity", "joint3", 1.5, 1.0)


def test_without_a_bound_the_robots_own_velocity_limits_hold():
    arm = StandingArm()
    arm.data.joint("joint1").qvel[0] = 2.1
    arm.data.joint("joint7").qvel[0] = 2.7
    arm.metrics.update(is_last=True)
    assert arm.violations() == [("velocity", "joint7")]


def test_the_workspace_is_checked_every_few_steps_and_at_the_last():
    home, _ = StandingArm().arm.pose(StandingArm().data)
    box = np.stack([home - 0.1, home + np.array([0.1, 0.1, -0.05])])
    arm = StandingArm(workspace=box)
    for _ in range(CHECK_EVERY - 1):
        arm.metrics.update(is_last=False)
    assert arm.violations() == []
    arm.metrics.update(is_last=False)
    assert arm.violations() == [("workspace", "z")]


def test_a_target_outside_the_workspace_counts_before_the_arm_is_there():
    still = StandingArm()
    home, _ = still.arm.pose(still.data)
    arm = StandingArm(workspace=np.stack([home - 0.05, home + 0.05]))
    arm.metrics.update(is_last=True)
    assert arm.violations() == []
    joints = arm.arm.joints(arm.data).copy()
    joints[0] += 0.5
    arm.metrics.include_target(joints)
    assert ("workspace", "y") in arm.violations()


def test_hard_contacts_of_the_robot_are_named_hardest_first():
    arm = StandingArm(max_contact_force_n=1e-6)
    table = int(arm.model.body("red_cube").id)
    hand = max(arm.arm.gripper_bodies)
    arm.metrics._forces = {(hand, table): 5.0, (table, hand): 8.0}
    assert [contact.force_n for contact in arm.metrics.contacts()] == [8.0, 5.0]
    assert [violation.value for violation in arm.metrics.violations()] == [8.0, 5.0]
