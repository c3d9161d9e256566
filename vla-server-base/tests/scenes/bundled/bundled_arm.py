"""A bundled scene in simulation, driven as a robot is: through its actuators, and by nothing else."""

import mujoco
import numpy as np

from vla_server_base.scenes.library import bundled_scene

ROBOTS = ("panda", "widowx")
OBJECTS = ("red_cube", "blue_cube", "green_sphere")
ARM_JOINTS = {
    "panda": tuple(f"joint{number}" for number in range(1, 8)),
    "widowx": ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate"),
}
FINGER_JOINTS = {"panda": ("finger_joint1", "finger_joint2"), "widowx": ("left_finger", "right_finger")}
BASES = {"panda": "link0", "widowx": "base_link"}


class BundledArm:
    """The arm of `<robot>/tabletop` at its keyframe `home`, its actuators holding it there."""

    def __init__(self, robot: str):
        self.robot = robot
        self.model = mujoco.MjModel.from_xml_string(bundled_scene(robot, "tabletop"))
        self.data = mujoco.MjData(self.model)
        mujoco.mj_resetDataKeyframe(self.model, self.data, self.model.key("home").id)
        mujoco.mj_forward(self.model, self.data)
        joints = [self.model.joint(name) for name in ARM_JOINTS[robot]]
        self.qpos = np.array([joint.qposadr[0] for joint in joints])
        self.dofs = np.array([joint.dofadr[0] for joint in joints])
        self.limits = np.array([joint.range for joint in joints])
        self.actuators = np.array([self.model.actuator(name).id for name in ARM_JOINTS[robot]])
        self.gripper = self.model.actuator("gripper")
        self.ee = self.model.site("ee").id

    @property
    def joints(self) -> np.ndarray:
        return self.data.qpos[self.qpos].copy()

    @property
    def fingers(self) -> np.ndarray:
        return np.array([self.data.joint(name).qpos[0] for name in FINGER_JOINTS[self.robot]])

    def position(self, body: str) -> np.ndarray:
        return self.data.body(body).xpos.copy()

    def robot_bodies(self) -> set[int]:
        base = self.model.body(BASES[self.robot]).id
        return {body for body in range(self.model.nbody) if base in self._ancestors(body)}

    def _ancestors(self, body: int) -> set[int]:
        return {body} | (self._ancestors(int(self.model.body_parentid[body])) if body else set())

    def step(self, seconds: float) -> None:
        for _ in range(round(seconds / self.model.opt.timestep)):
            mujoco.mj_step(self.model, self.data)

    def open_gripper(self, fraction: float, seconds: float) -> None:
        """Command the gripper, 0 closed and 1 open, and wait."""
        closed, opened = self.gripper.ctrlrange
        self.data.ctrl[self.gripper.id] = closed + fraction * (opened - closed)
        self.step(seconds)

    def move_to(self, position: np.ndarray, rotation: np.ndarray, seconds: float) -> None:
        """Bring site `ee` to a pose: a straight line in joint space, then half a second to settle."""
        start = self.data.ctrl[self.actuators].copy()
        goal = self.joints_at(position, rotation)
        for fraction in np.linspace(0, 1, round(seconds / self.model.opt.timestep)):
            self.data.ctrl[self.actuators] = start + fraction * (goal - start)
            mujoco.mj_step(self.model, self.data)
        self.step(0.5)

    def joints_at(self, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        """Solve the inverse kinematics by damped least squares, on a copy of the state."""
        scratch = mujoco.MjData(self.model)
        scratch.qpos[:] = self.data.qpos
        jacobian = np.zeros((6, self.model.nv))
        for _ in range(200):
            mujoco.mj_kinematics(self.model, scratch)
            mujoco.mj_comPos(self.model, scratch)
            error = np.concatenate(
                [
                    position - scratch.site_xpos[self.ee],
                    rotation_between(scratch.site_xmat[self.ee].reshape(3, 3), rotation),
                ]
            )
            if np.linalg.norm(error) < 1e-5:
                return scratch.qpos[self.qpos].copy()
            mujoco.mj_jacSite(self.model, scratch, jacobian[:3], jacobian[3:], self.ee)
            arm = jacobian[:, self.dofs]
            step = arm.T @ np.linalg.solve(arm @ arm.T + 1e-4 * np.eye(6), error)
            scratch.qpos[self.qpos] = np.clip(scratch.qpos[self.qpos] + step, *self.limits.T)
        raise AssertionError(f"no joints of the {self.robot} bring its ee to {position}")


def rotation_between(current: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the rotation vector that takes the one orientation to the other, for small angles."""
    return 0.5 * np.sum([np.cross(current[:, axis], target[:, axis]) for axis in range(3)], axis=0)
