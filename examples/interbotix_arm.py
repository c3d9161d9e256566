"""A WidowX 250 with six joints by Interbotix's driver for ROS 2, and two USB cameras, as the control loop takes them.

Start the driver first: ros2 launch interbotix_xsarm_control xsarm_control.launch.py robot_model:=wx250s
"""

import time

import cv2
from interbotix_common_modules.common_robot.robot import robot_startup
from interbotix_xs_modules.xs_robot.arm import InterbotixManipulatorXS

CAMERAS = {"primary": 0, "wrist": 2}  # the numbers of /dev/video*; primary looks at the arm and the table


class WidowX:
    """The arm above the table, its gripper open and pointing down; a step takes it `step_s`."""

    def __init__(self, step_s):
        robot = InterbotixManipulatorXS("wx250s", "arm", "gripper", moving_time=2.0, accel_time=0.5)
        robot_startup()
        self._arm, self._gripper, self._is_open = robot.arm, robot.gripper, True
        self._arm.set_ee_pose_components(x=0.30, z=0.15, pitch=1.5)
        self._gripper.release()
        self._arm.set_trajectory_time(moving_time=step_s, accel_time=step_s / 4)
        self._cameras = {name: cv2.VideoCapture(number) for name, number in CAMERAS.items()}
        for camera in self._cameras.values():
            camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def see(self):
        """Return the images, RGB, and a time of time.monotonic before they were taken."""
        for camera in self._cameras.values():
            camera.grab()  # what lay in its buffer is a step old
        seen_at = time.monotonic()
        frames = {name: camera.read() for name, camera in self._cameras.items()}
        if blind := [CAMERAS[name] for name, (is_there, _) in frames.items() if not is_there]:
            raise RuntimeError(f"/dev/video{blind[0]} gives no image; CAMERAS names the ones that are used")
        return {name: cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) for name, (_, frame) in frames.items()}, seen_at

    def goal(self):
        """Return where the gripper's tip was last sent (4x4), in the frame of the base."""
        return self._arm.get_ee_pose_command()

    def go(self, pose, is_open):
        """Set out for a pose; where the joints cannot reach it, stay."""
        self._arm.set_ee_pose_matrix(pose, custom_guess=self._arm.get_joint_commands(), blocking=False)
        if is_open != self._is_open:
            (self._gripper.release if is_open else self._gripper.grasp)(delay=0.0)
            self._is_open = is_open

    def hold(self):
        """Stay where it was last sent; to stay where it hangs would let it sink step by step."""
        self._arm.set_joint_positions(self._arm.get_joint_commands(), blocking=False)
