"""Monitors a running simulation: its measures, its contacts, and the bounds that it exceeds."""

from collections.abc import Iterable, Iterator

import mujoco
import numpy as np
from jaxtyping import Float

from vla_server_base.errors import UnknownName
from vla_server_base.scenes.messages import Bounds, Contact, Measure, Violation
from vla_server_base.scenes.worker.arms.arm import Arm

CHECK_EVERY = 5
"""Physics steps between two checks of contacts and the workspace: 10 ms at the usual 2 ms."""

MAX_CONTACTS = 50
AXES = ("x", "y", "z")


class Monitor:
    """Measures a simulation as a request asks for; `arm` is None if no arm is controlled.

    Raises:
        UnknownName: the scene has no such body or joint.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        arm: Arm | None,
        bounds: Bounds,
        measures: tuple[Measure, ...],
    ):
        self.model, self.data, self.arm, self.bounds = model, data, arm, bounds
        self._measures = [(measure, [self._id(measure.kind, name) for name in measure.names]) for measure in measures]

    def _id(self, kind: str, name: str) -> int:
        what, number = ("joint", mujoco.mjtObj.mjOBJ_JOINT) if kind == "joint" else ("body", mujoco.mjtObj.mjOBJ_BODY)
        index = mujoco.mj_name2id(self.model, number, name)
        if index < 0:
            of_kind = self.model.joint if kind == "joint" else self.model.body
            count = self.model.njnt if kind == "joint" else self.model.nbody
            known = (of_kind(i).name[:80] for i in range(count))
            raise UnknownName(what, name, [each for each in known if each][:50])
        return index

    def measure(self) -> tuple[float, ...]:
        """Return each measure in the present state."""
        return tuple(self._measured(measure, ids) for measure, ids in self._measures)

    def _measured(self, measure: Measure, ids: list[int]) -> float:
        data = self.data
        if measure.kind == "joint":
            return float(data.qpos[self.model.jnt_qposadr[ids[0]]])
        if measure.kind == "contact":
            return sum(self.contact_forces(self.mask(ids[:1]), self.mask(ids[1:])).values())
        if measure.kind == "height":
            return float(data.xpos[ids[0], 2])
        if measure.kind == "along":
            return float(data.xpos[ids[0]] @ measure.direction)
        offset = data.xpos[ids[0]] - data.xpos[ids[1]]
        if measure.kind == "above":
            return float(offset[2])
        return float(np.linalg.norm(offset if measure.kind == "distance" else offset[:2]))

    def contact_forces(self, is_first: np.ndarray, is_second: np.ndarray) -> dict[tuple[int, int], float]:
        """Return the contact force [N] of each pair of a first and a second body; both are masks over all bodies."""
        contact, forces = self.data.contact, {}
        # A flexible body's contacts have no geoms; they are left out.
        bodies = np.where(contact.geom >= 0, self.model.geom_bodyid[contact.geom], 0)
        meet = (is_first[bodies[:, 0]] & is_second[bodies[:, 1]]) | (is_second[bodies[:, 0]] & is_first[bodies[:, 1]])
        wrench = np.zeros(6)
        for index in np.flatnonzero(meet & (contact.geom >= 0).all(axis=1)).tolist():
            mujoco.mj_contactForce(self.model, self.data, index, wrench)
            pair = (int(bodies[index, 0]), int(bodies[index, 1]))
            forces[pair] = forces.get(pair, 0.0) + float(abs(wrench[0]))
        return forces

    def mask(self, bodies: Iterable[int]) -> np.ndarray:
        """Return a mask over all bodies that is true for these."""
        return np.isin(np.arange(self.model.nbody), list(bodies))

    def start_step(self) -> "StepMetrics":
        """Return the metrics of a control step that begins."""
        return StepMetrics(self)


class StepMetrics:
    """The extremes of one control step of an arm."""

    def __init__(self, monitor: Monitor):
        assert monitor.arm is not None, "only an arm has control steps"
        self._monitor, self._arm = monitor, monitor.arm
        self._is_robot = monitor.mask(self._arm.bodies)
        self._num_updates = 0
        self._speeds = np.zeros(len(self._arm.robot.joints))
        self._lowest, self._highest = np.full(3, np.inf), np.full(3, -np.inf)
        self._forces: dict[tuple[int, int], float] = {}

    def update(self, *, is_last: bool) -> None:
        """Include the state after one physics step."""
        data = self._monitor.data
        np.maximum(self._speeds, np.abs(self._arm.joint_speeds(data)), out=self._speeds)
        self._num_updates += 1
        if self._num_updates % CHECK_EVERY and not is_last:
            return
        position, _ = self._arm.pose(data)
        self._include(position)
        forces = self._monitor.contact_forces(self._is_robot, ~self._is_robot)
        for bodies, force in forces.items():
            self._forces[bodies] = max(force, self._forces.get(bodies, 0.0))

    def include_target(self, joint_targets: Float[np.ndarray, " joints"]) -> None:
        """Include the arm's target: the arm lags, so it may leave the workspace only after this step."""
        position, _ = self._arm.forward(self._monitor.data, joint_targets)
        self._include(position)

    def _include(self, position: Float[np.ndarray, " 3"]) -> None:
        np.minimum(self._lowest, position, out=self._lowest)
        np.maximum(self._highest, position, out=self._highest)

    def contacts(self) -> tuple[Contact, ...]:
        """Return the robot's contacts, hardest first."""
        name = self._monitor.model.body
        hardest = sorted(self._forces.items(), key=lambda item: -item[1])[:MAX_CONTACTS]
        return tuple(
            Contact(bodies=(name(bodies[0]).name, name(bodies[1]).name), force_n=force) for bodies, force in hardest
        )

    def violations(self) -> tuple[Violation, ...]:
        """Return the bounds that were exceeded, and by how much."""
        return (*self._fast_joints(), *self._out_of_workspace(), *self._hard_contacts())

    def _fast_joints(self) -> Iterator[Violation]:
        limits = self._arm.velocity_limits
        if self._monitor.bounds.max_joint_speed is not None:
            limits = np.full(len(self._speeds), self._monitor.bounds.max_joint_speed)
        if limits is not None:
            for joint, speed, limit in zip(self._arm.robot.joints, self._speeds, limits, strict=True):
                if speed > limit:
                    yield Violation(kind="velocity", what=joint, value=float(speed), limit=float(limit))

    def _out_of_workspace(self) -> Iterator[Violation]:
        workspace = self._monitor.bounds.workspace
        if workspace is not None:
            for axis, name in enumerate(AXES):
                lowest, highest = float(self._lowest[axis]), float(self._highest[axis])
                if lowest < workspace[0, axis]:
                    yield Violation(kind="workspace", what=name, value=lowest, limit=float(workspace[0, axis]))
                if highest > workspace[1, axis]:
                    yield Violation(kind="workspace", what=name, value=highest, limit=float(workspace[1, axis]))

    def _hard_contacts(self) -> Iterator[Violation]:
        limit = self._monitor.bounds.max_contact_force_n
        for contact in self.contacts():
            if contact.force_n > limit:
                what = " and ".join(contact.bodies)
                yield Violation(kind="contact", what=what, value=contact.force_n, limit=limit)
