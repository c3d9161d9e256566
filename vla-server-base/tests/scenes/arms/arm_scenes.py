"""MJCF of arms made from primitives, with the names and the kinematics of models that people use."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco

from vla_server_base.scenes.library import bundled_scene


@dataclass(frozen=True)
class Link:
    """A body and its joint: place in the link before, axis, name, range."""

    joint: str
    pos: str
    quat: str = "1 0 0 0"
    axis: str = "0 0 1"
    range: str = "-6.2831 6.2831"


@dataclass(frozen=True)
class Chain:
    links: Sequence[Link]
    site: str
    pos: str
    quat: str = "1 0 0 0"


UR5E = Chain(
    (
        Link("shoulder_pan_joint", "0 0 0.163"),
        Link("shoulder_lift_joint", "0 0.138 0", "1 0 1 0", "0 1 0"),
        Link("elbow_joint", "0 -0.131 0.425", axis="0 1 0", range="-3.1415 3.1415"),
        Link("wrist_1_joint", "0 0 0.392", "1 0 1 0", "0 1 0"),
        Link("wrist_2_joint", "0 0.127 0"),
        Link("wrist_3_joint", "0 0 0.1", axis="0 1 0"),
    ),
    "attachment_site",
    "0 0.1 0",
    "-1 1 0 0",
)
XARM7 = Chain(
    (
        Link("joint1", "0 0 0.267"),
        Link("joint2", "0 0 0", "1 -1 0 0", range="-2.059 2.0944"),
        Link("joint3", "0 -0.293 0", "1 1 0 0"),
        Link("joint4", "0.0525 0 0", "1 1 0 0", range="-0.19198 3.927"),
        Link("joint5", "0.0775 -0.3425 0", "1 1 0 0"),
        Link("joint6", "0 0 0", "1 1 0 0", range="-1.69297 3.14159"),
        Link("joint7", "0.076 0.097 0", "1 -1 0 0"),
    ),
    "link_tcp",
    "0 0 0.172",
    "0 0 0 1",
)
PALM = """
<body name="palm">
  <geom size="0.02" mass="0.1"/>
  <body name="left" pos="0 0 0.05">
    <joint name="left" type="slide" axis="0 1 0" range="0.01 0.04"/><geom size="0.01" mass="0.02"/>
  </body>
  <body name="right" pos="0 0 0.05">
    <joint name="right" type="slide" axis="0 -1 0" range="0.01 0.04"/><geom size="0.01" mass="0.02"/>
  </body>
</body>
"""
FINGERS = '<tendon><fixed name="fingers"><joint joint="left" coef="1"/><joint joint="right" coef="1"/></fixed></tendon>'
GRIPPER = """
<general name="gripper" tendon="fingers" ctrlrange="0 255" gainprm="0.05" biastype="affine" biasprm="0 -100 -10"/>
"""


def chain(arm: Chain, *, joint: str = "", site: str = "", gripper: bool = False) -> str:
    """Write an arm as MJCF; `joint` is a pattern for other names of the joints, `site` another name of the site."""
    names = [joint.format(number) if joint else link.joint for number, link in enumerate(arm.links)]
    inner = f'<site name="{site or arm.site}" pos="{arm.pos}" quat="{arm.quat}"/>' + (PALM if gripper else "")
    for name, link in reversed(list(zip(names, arm.links, strict=True))):
        inner = f"""
        <body pos="{link.pos}" quat="{link.quat}" gravcomp="1">
          <joint name="{name}" axis="{link.axis}" range="{link.range}" armature="0.1"/>
          <geom size="0.03" mass="1" contype="0" conaffinity="0"/>{inner}
        </body>"""
    servos = "".join(f'<position joint="{name}" kp="2000" kv="200"/>' for name in names)
    return f"""
    <mujoco>
      <compiler angle="radian"/>
      <worldbody><body name="base">{inner}</body></worldbody>
      {FINGERS if gripper else ""}
      <actuator>{servos}{GRIPPER if gripper else ""}</actuator>
    </mujoco>"""


def menagerie_panda() -> str:
    """Name the bundled Panda's parts as MuJoCo Menagerie does."""
    xml = _without_keyframe(bundled_scene("panda", "tabletop")).replace('<site name="ee" pos="0 0 0.1034"/>', "")
    xml = re.sub(r'<position name="joint(\d)"', r'<position name="actuator\1"', xml)
    return re.sub(r'<position name="gripper".*?/>', _wide_gripper("actuator8", "finger_travel", 0.0157), xml)


def _wide_gripper(name: str, tendon: str, gain: float) -> str:
    bias = 'biastype="affine" biasprm="0 -100 -10"'
    return f'<general name="{name}" tendon="{tendon}" ctrlrange="0 255" gainprm="{gain}" {bias}/>'


def robosuite_panda(gripper: str) -> str:
    """Name the bundled Panda's parts as robosuite does, with torque motors and a motor for each finger."""
    xml = _without_keyframe(bundled_scene("panda", "tabletop"))
    xml = re.sub(r"<(tendon|equality|actuator)>.*?</\1>", "", xml, flags=re.DOTALL)
    xml = xml.replace('<body name="hand"', '<body name="robot0_right_hand"')
    xml = re.sub(r'joint name="joint(\d)"', r'joint name="robot0_joint\1"', xml)
    xml = re.sub(r'joint name="finger_joint(\d)"', rf'joint name="{gripper}finger_joint\1"', xml)
    xml = xml.replace('<site name="ee" pos="0 0 0.1034"/>', f'<site name="{gripper}grip_site" pos="0 0 0.097"/>')
    xml = xml.replace('joint2" class="finger"', 'joint2" class="finger" axis="0 -1 0" range="-0.04 0"')
    motors = "".join(f'<motor joint="robot0_joint{number}"/>' for number in range(1, 8))
    fingers = "".join(
        f'<position name="{gripper}gripper_finger_joint{number}" joint="{gripper}finger_joint{number}" kp="1000"'
        f' ctrlrange="{span}"/>'
        for number, span in ((1, "0 0.04"), (2, "-0.04 0"))
    )
    return xml.replace("</mujoco>", f"<actuator>{motors}{fingers}</actuator></mujoco>")


def menagerie_widowx() -> str:
    """Name the bundled WidowX's parts as MuJoCo Menagerie does."""
    xml = _without_keyframe(bundled_scene("widowx", "tabletop")).replace('body name="', 'body name="wx250s/')
    xml = re.sub(r'body(\d)="', r'body\1="wx250s/', re.sub(r'<site name="ee".*?/>', "", xml))
    servo = '<position name="gripper" joint="left_finger" kp="200" ctrlrange="0.015 0.037"/>'
    return re.sub(r'<general name="gripper".*?/>', servo, xml)


def _without_keyframe(xml: str) -> str:
    return re.sub(r"<keyframe>.*</keyframe>", "", xml, flags=re.DOTALL)


def attached(*robots: tuple[str, str], suffix: str = "") -> mujoco.MjModel:
    """Compile a scene of robots, each given as its prefix and its own scene."""
    top = mujoco.MjSpec()
    for number, (prefix, xml) in enumerate(robots):
        bare = re.sub(r"<(visual|keyframe)>.*?</\1>|<(option|statistic).*?/>", "", xml, flags=re.DOTALL)
        frame = top.worldbody.add_frame(pos=[number, 0, 0.5], quat=[0.6, 0, 0, 0.8])
        frame.attach_body(mujoco.MjSpec.from_string(bare).worldbody.first_body(), prefix, suffix)
    return top.compile()
