"""Finds the arm of a scene by name, by description or by structure, and refuses what is ambiguous."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
from arm_scenes import UR5E, XARM7, Chain, attached, chain, menagerie_panda, menagerie_widowx, robosuite_panda
from controlled_arm import compiled

from vla_server_base.errors import SceneError, UnknownName
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import ControlSettings
from vla_server_base.scenes.robots import BUNDLED_PANDA, Gripper, RobotDescription
from vla_server_base.scenes.worker.arms.arm_search import find_arm
from vla_server_base.scenes.worker.arms.controllers import Controller

NAMED = {
    "panda": ("panda", "ee", bundled_scene("panda", "tabletop")),
    "widowx": ("widowx", "ee", bundled_scene("widowx", "tabletop")),
    "menagerie's panda": ("panda", "hand", menagerie_panda()),
    "menagerie's widowx": ("widowx", "wx250s/gripper_link", menagerie_widowx()),
    "robosuite's panda": ("panda", "gripper0_right_grip_site", robosuite_panda("gripper0_right_")),
    "robosuite 1.4's panda": ("panda", "gripper0_grip_site", robosuite_panda("gripper0_")),
    "ur5e": ("ur5e", "attachment_site", chain(UR5E)),
    "xarm7": ("xarm7", "link_tcp", chain(XARM7, gripper=True)),
}


@pytest.mark.parametrize("scene", NAMED)
def test_a_known_robot_is_found_by_its_names(scene):
    name, end_effector, xml = NAMED[scene]
    model = compiled(xml)
    robot = find_arm(model, None).robot
    assert (robot.name, robot.end_effector) == (name, end_effector)
    assert find_arm(model, name).robot == robot


@pytest.mark.parametrize("scene", NAMED)
def test_a_known_robot_is_found_where_it_is_attached_under_other_names(scene):
    name, end_effector, xml = NAMED[scene]
    robot = find_arm(attached(("left/", xml), suffix="_2"), None).robot
    assert (robot.name, robot.end_effector) == (name, f"left/{end_effector}_2")


def test_an_arms_parts_are_told_apart():
    model = compiled(bundled_scene("panda", "tabletop"))
    arm = find_arm(model, "panda")
    named = {model.body(body).name for body in arm.bodies}
    assert named == {*(f"link{i}" for i in range(8)), "hand", "left_finger", "right_finger"}
    assert {model.body(body).name for body in arm.gripper_bodies} == {"link7", "hand", "left_finger", "right_finger"}
    np.testing.assert_allclose(arm.limits[3], [-3.0718, -0.0698])


def test_another_arm_of_a_known_ones_names_is_not_taken_for_it():
    short = bundled_scene("panda", "tabletop").replace('pos="0 -0.316 0"', 'pos="0 -0.25 0"')
    robot = find_arm(compiled(short), None).robot
    assert (robot.name, robot.velocity_limits) == ("arm", None)
    assert robot.joints == BUNDLED_PANDA.joints
    with pytest.raises(SceneError, match="this scene has no panda"):
        find_arm(compiled(short), "panda")


def test_a_described_robot_is_taken_as_described():
    xml = chain(UR5E, joint="j{}", site="tip", gripper=True)
    robot = RobotDescription(
        name="mine",
        joints=tuple(f"j{number}" for number in range(6)),
        end_effector="tip",
        offset=(0.0, 0.0, 0.1),
        gripper=Gripper(actuators=("gripper",), open=(255.0,), closed=(0.0,)),
    )
    arm = find_arm(compiled(xml), robot)
    bare = find_arm(compiled(xml), replace(robot, offset=(0.0, 0.0, 0.0)))
    assert arm.robot == robot
    data = mujoco.MjData(compiled(xml))
    np.testing.assert_allclose(np.linalg.norm(arm.pose(data)[0] - bare.pose(data)[0]), 0.1)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"joints": ("joint1", "elbow")}, "unknown_joint"),
        ({"end_effector": "tip"}, "unknown_site_or_body"),
    ],
)
def test_a_description_that_names_what_is_not_there_is_refused(change, code):
    model = compiled(bundled_scene("panda", "tabletop"))
    described = replace(BUNDLED_PANDA, home=None, velocity_limits=None, **change)
    with pytest.raises(UnknownName) as refusal:
        find_arm(model, described)
    assert (refusal.value.code, refusal.value.status) == (code, 422)


def test_a_gripper_with_an_actuator_that_is_not_there_is_refused():
    model = compiled(bundled_scene("panda", "tabletop"))
    gripper = Gripper(actuators=("jaw",), open=(1.0,), closed=(0.0,))
    with pytest.raises(UnknownName, match="actuator 'jaw' is not known"):
        Controller(find_arm(model, replace(BUNDLED_PANDA, gripper=gripper)), ControlSettings())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": tuple(reversed(BUNDLED_PANDA.joints))}, "not one chain"),
        ({"joints": ()}, "no joints"),
        ({"joints": ("red_cube",)}, "neither a hinge nor a slide"),
        ({"end_effector": "link3"}, "does not move with the last joint"),
        ({"home": (0.0, 0.0)}, "7 joints, but 2 numbers in `home`"),
    ],
)
def test_a_description_of_no_arm_is_refused(change, message):
    model = compiled(bundled_scene("panda", "tabletop"))
    with pytest.raises(SceneError, match=message):
        find_arm(model, replace(BUNDLED_PANDA, **{"home": None, "velocity_limits": None, **change}))


def test_a_name_that_is_not_known_is_refused_with_the_known_ones():
    with pytest.raises(UnknownName) as refusal:
        find_arm(compiled(bundled_scene("panda", "tabletop")), "r2d2")
    assert (refusal.value.code, refusal.value.status) == ("unknown_robot_name", 422)
    assert "panda, ur5e, widowx, xarm7" in refusal.value.hint


def test_a_scene_without_an_arm_says_what_to_name():
    with pytest.raises(SceneError, match="this scene has no arm") as refusal:
        find_arm(
            compiled('<mujoco><worldbody><body><joint name="lid"/><geom size="1"/></body></worldbody></mujoco>'), None
        )
    assert "joints: lid" in refusal.value.hint
    assert "describe the arm in `robot`" in refusal.value.hint


def test_two_arms_are_both_named():
    two = attached(*((f"arm{number}/", chain(UR5E, joint="j{}", site="ee")) for number in (0, 1)))
    with pytest.raises(SceneError, match=r"2 arms: arm0/j0, .*arm0/j5; arm1/j0, .*arm1/j5"):
        find_arm(two, None)


def test_an_unknown_arm_is_found_by_the_site_at_its_end():
    robot = find_arm(compiled(chain(UR5E, joint="j{}", site="my_ee")), None).robot
    assert robot.joints == tuple(f"j{number}" for number in range(6))
    assert (robot.end_effector, robot.gripper) == ("my_ee", None)


def test_an_unknown_arm_is_found_by_its_fingers_and_its_gripper_by_where_they_part():
    xml = chain(UR5E, joint="j{}", site="somewhere", gripper=True)
    robot = find_arm(compiled(xml), None).robot
    assert (robot.joints[-1], robot.end_effector) == ("j5", "palm")
    assert robot.offset == pytest.approx((0, 0, 0.05))
    assert robot.gripper == Gripper(actuators=("gripper",), open=(255.0,), closed=(0.0,))


def test_a_gripper_added_to_a_known_arm_is_found():
    robot = find_arm(compiled(chain(UR5E, gripper=True)), "ur5e").robot
    assert robot.gripper == Gripper(actuators=("gripper",), open=(255.0,), closed=(0.0,))


def test_a_gripper_that_could_be_either_way_round_has_to_be_described():
    unclear = chain(UR5E, gripper=True).replace('ctrlrange="0 255"', 'ctrllimited="false"')
    with pytest.raises(SceneError, match="the gripper's actuator 'gripper' moves the fingers"):
        find_arm(compiled(unclear), None)


def with_grasp_site(xml: str, name: str) -> str:
    return xml.replace('<body name="palm">', f'<body name="palm"><site name="{name}" pos="0 0 0.08"/>')


def on_a_hand(arm: Chain, hand: str, place: str) -> str:
    """Write an arm as robosuite does, which mounts its grippers to a body at the flange."""
    xml = with_grasp_site(chain(arm, gripper=True), "gripper0_right_grip_site")
    for link in arm.links:
        xml = xml.replace(f'name="{link.joint}"', f'name="robot0_{link.joint}"')
        xml = xml.replace(f'joint="{link.joint}"', f'joint="robot0_{link.joint}"')
    flange = f'<body name="robot0_{hand}" pos="{place}"/>'
    return xml.replace(f'<site name="{arm.site}"', f'{flange}<site name="robot0_center"')


@pytest.mark.parametrize(("name", "arm", "place"), [("ur5e", UR5E, UR5E.pos), ("xarm7", XARM7, "0 0 -0.027")])
def test_robosuites_form_of_an_arm_is_known_and_driven_at_its_grippers_grasp_site(name, arm, place):
    robot = find_arm(compiled(on_a_hand(arm, "right_hand", place)), name).robot
    assert (robot.name, robot.end_effector) == (name, "gripper0_right_grip_site")
    assert robot.gripper == Gripper(actuators=("gripper",), open=(255.0,), closed=(0.0,))


@pytest.mark.parametrize("site", ["pinch", "left/pinch", "my_tcp"])
def test_the_grasp_site_of_a_mounted_gripper_is_the_end_effector_not_the_flange(site):
    robot = find_arm(compiled(with_grasp_site(chain(UR5E, gripper=True), site)), None).robot
    assert (robot.name, robot.end_effector) == ("ur5e", site)


def test_a_mounted_gripper_without_a_site_of_its_own_leaves_the_flange():
    assert find_arm(compiled(chain(UR5E, gripper=True)), None).robot.end_effector == "attachment_site"


def test_menagerie_xarm7_without_a_hand_is_known():
    bare = replace(XARM7, site="attachment_site", pos="0 0 0")
    robot = find_arm(compiled(chain(bare)), "xarm7").robot
    assert (robot.end_effector, robot.gripper) == ("attachment_site", None)


def test_one_of_two_arms_is_chosen_by_its_end_effector():
    two = attached(*((f"arm{number}/", chain(UR5E)) for number in (0, 1)))
    with pytest.raises(SceneError, match="2 arms") as refusal:
        find_arm(two, "ur5e")
    assert "one of: arm0/attachment_site, arm1/attachment_site" in refusal.value.hint
    chosen = find_arm(two, "arm1/attachment_site").robot
    assert (chosen.name, chosen.joints[0]) == ("ur5e", "arm1/shoulder_pan_joint")
    with pytest.raises(UnknownName) as unknown:
        find_arm(two, "arm2/attachment_site")
    assert "arm1/attachment_site" in unknown.value.hint


def test_a_known_arm_is_not_taken_in_silence_where_another_one_stands_beside_it():
    two = attached(("left/", chain(UR5E)), ("right/", chain(UR5E, joint="j{}", site="my_ee")))
    with pytest.raises(SceneError, match="2 arms"):
        find_arm(two, None)
    assert find_arm(two, "ur5e").robot.joints[0] == "left/shoulder_pan_joint"
    assert find_arm(two, "right/my_ee").robot.joints[0] == "right/j0"


def test_where_fingers_have_no_limits_a_servos_targets_say_which_end_is_open():
    unlimited = chain(UR5E, gripper=True).replace('range="0.01 0.04"', 'limited="false"')
    robot = find_arm(compiled(unlimited), None).robot
    assert robot.gripper == Gripper(actuators=("gripper",), open=(255.0,), closed=(0.0,))
