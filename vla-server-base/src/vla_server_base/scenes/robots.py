"""Robot arms by the names of their parts: joints, end effector, gripper, home. Plain data, for server and worker."""

from dataclasses import dataclass, replace
from math import pi


@dataclass(frozen=True, kw_only=True)
class Gripper:
    """The actuators that move the fingers, and the control value of each where it is open and where closed."""

    actuators: tuple[str, ...]
    open: tuple[float, ...]
    closed: tuple[float, ...]


NO_GRIPPER = Gripper(actuators=(), open=(), closed=())


@dataclass(frozen=True, kw_only=True)
class RobotDescription:
    """An arm by the names that its parts have in a scene.

    `joints` from base to flange; `end_effector` is a site or a body, and the point that is controlled lies at
    `offset` [m] in its frame; `home` is a pose [rad or m]; `velocity_limits` [rad/s or m/s] may be unknown.
    """

    name: str
    joints: tuple[str, ...]
    end_effector: str
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gripper: Gripper | None = None
    home: tuple[float, ...] | None = None
    velocity_limits: tuple[float, ...] | None = None


SEVEN_JOINTS = tuple(f"joint{number}" for number in range(1, 8))

# Franka's interface specification for the Robot (Panda), limits in joint space.
PANDA_VELOCITY_LIMITS = (2.175,) * 4 + (2.61,) * 3

BUNDLED_PANDA = RobotDescription(
    name="panda",
    joints=SEVEN_JOINTS,
    end_effector="ee",
    gripper=Gripper(actuators=("gripper",), open=(0.04,), closed=(0.0,)),
    home=(0, -pi / 5, 0, -4 * pi / 5, 0, 3 * pi / 5, pi / 4),
    velocity_limits=PANDA_VELOCITY_LIMITS,
)

# MuJoCo Menagerie, franka_emika_panda/panda.xml. The grasp point is 0.1034 m from the hand's frame, as Franka has it.
MENAGERIE_PANDA = RobotDescription(
    name="panda",
    joints=SEVEN_JOINTS,
    end_effector="hand",
    offset=(0.0, 0.0, 0.1034),
    gripper=Gripper(actuators=("actuator8",), open=(255.0,), closed=(0.0,)),
    home=(0, 0, 0, -pi / 2, 0, pi / 2, -pi / 4),
    velocity_limits=PANDA_VELOCITY_LIMITS,
)

# franka_emika_panda/panda_nohand.xml.
MENAGERIE_PANDA_WITHOUT_HAND = RobotDescription(
    name="panda",
    joints=SEVEN_JOINTS,
    end_effector="attachment_site",
    home=(0, 0, 0, -pi / 2, 0, pi / 2, -pi / 4),
    velocity_limits=PANDA_VELOCITY_LIMITS,
)


# The same Panda with fingers of 0.04 m that a servo each moves: franka_emika_panda/mjx_panda.xml.
MENAGERIE_MJX_PANDA = replace(MENAGERIE_PANDA, gripper=None)

# robosuite's arms end in a body to which one of its grippers is mounted.
ROBOSUITE_PANDA = RobotDescription(
    name="panda",
    joints=SEVEN_JOINTS,
    end_effector="right_hand",
    home=(0, pi / 16, 0, -5 * pi / 6, 0, pi - 0.2, pi / 4),
    velocity_limits=PANDA_VELOCITY_LIMITS,
)

WIDOWX_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")

# Interbotix' URDF of the wx250s: every joint pi rad/s.
WIDOWX_VELOCITY_LIMITS = (pi,) * 6

BUNDLED_WIDOWX = RobotDescription(
    name="widowx",
    joints=WIDOWX_JOINTS,
    end_effector="ee",
    gripper=Gripper(actuators=("gripper",), open=(0.022,), closed=(0.0,)),
    home=(0, 0.04, 0.22, 0, 1.3107963267948966, 0),
    velocity_limits=WIDOWX_VELOCITY_LIMITS,
)

# trossen_wx250s/wx250s.xml; the offset is that of ee_gripper_link in Interbotix' URDF.
MENAGERIE_WIDOWX = RobotDescription(
    name="widowx",
    joints=WIDOWX_JOINTS,
    end_effector="wx250s/gripper_link",
    offset=(0.093575, 0.0, 0.0),
    gripper=Gripper(actuators=("gripper",), open=(0.037,), closed=(0.015,)),
    home=(0, -0.96, 1.16, 0, -0.3, 0),
    velocity_limits=WIDOWX_VELOCITY_LIMITS,
)

# universal_robots_ur5e/ur5e.xml; Universal Robots' data sheet: every joint 180 degrees/s.
MENAGERIE_UR5E = RobotDescription(
    name="ur5e",
    joints=(
        "shoulder_pan_joint",
        "shoulder_lift_joint",
        "elbow_joint",
        "wrist_1_joint",
        "wrist_2_joint",
        "wrist_3_joint",
    ),
    end_effector="attachment_site",
    home=(-pi / 2, -pi / 2, pi / 2, -pi / 2, -pi / 2, 0),
    velocity_limits=(pi,) * 6,
)
ROBOSUITE_UR5E = replace(MENAGERIE_UR5E, end_effector="right_hand")

# ufactory_xarm7/xarm7.xml; UFACTORY's manual: every joint 180 degrees/s.
MENAGERIE_XARM7 = RobotDescription(
    name="xarm7",
    joints=SEVEN_JOINTS,
    end_effector="link_tcp",
    gripper=Gripper(actuators=("gripper",), open=(0.0,), closed=(255.0,)),
    home=(0, -0.247, 0, 0.909, 0, 1.15644, 0),
    velocity_limits=(pi,) * 7,
)
# ufactory_xarm7/xarm7_nohand.xml
MENAGERIE_XARM7_WITHOUT_HAND = replace(MENAGERIE_XARM7, end_effector="attachment_site", gripper=None)
ROBOSUITE_XARM7 = replace(MENAGERIE_XARM7, end_effector="right_hand", gripper=None)


@dataclass(frozen=True, kw_only=True)
class KnownRobot:
    """A robot by the names of one of its models.

    `reach` is where its end effector is at home [m], in the base's frame: other arms have joints of the same names.
    """

    robot: RobotDescription
    reach: tuple[float, float, float]


# A robot may be listed more than once, with other names.
KNOWN_ROBOTS = (
    KnownRobot(robot=BUNDLED_PANDA, reach=(0.360, 0.0, 0.387)),
    KnownRobot(robot=MENAGERIE_PANDA, reach=(0.554, 0.0, 0.521)),
    KnownRobot(robot=MENAGERIE_MJX_PANDA, reach=(0.554, 0.0, 0.521)),
    KnownRobot(robot=MENAGERIE_PANDA_WITHOUT_HAND, reach=(0.554, 0.0, 0.625)),
    KnownRobot(robot=ROBOSUITE_PANDA, reach=(0.445, 0.0, 0.195)),
    KnownRobot(robot=BUNDLED_WIDOWX, reach=(0.301, 0.0, 0.136)),
    KnownRobot(robot=MENAGERIE_WIDOWX, reach=(0.227, 0.0, 0.261)),
    KnownRobot(robot=MENAGERIE_UR5E, reach=(0.134, -0.492, 0.488)),
    KnownRobot(robot=ROBOSUITE_UR5E, reach=(0.134, -0.492, 0.488)),
    KnownRobot(robot=MENAGERIE_XARM7, reach=(0.400, 0.0, 0.228)),
    KnownRobot(robot=MENAGERIE_XARM7_WITHOUT_HAND, reach=(0.400, 0.0, 0.400)),
    KnownRobot(robot=ROBOSUITE_XARM7, reach=(0.400, 0.0, 0.427)),
)

ROBOT_NAMES = tuple(sorted({known.robot.name for known in KNOWN_ROBOTS}))
