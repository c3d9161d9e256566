"""The simulation of a compiled scene: set to a state, stepped, and read."""

import mujoco
import numpy as np
from jaxtyping import Float

from vla_server_base.errors import SceneUnstable
from vla_server_base.scenes.messages import BodyPose, SceneState, SimulationState, Snapshot
from vla_server_base.scenes.worker.body_poses import put_bodies
from vla_server_base.scenes.worker.scene_state import apply_state

FULL_STATE = mujoco.mjtState.mjSTATE_INTEGRATION.value
UNSTABLE = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)

FullState = Float[np.ndarray, " numbers"]


class Physics:
    """One simulation of a scene. Between two calls, all that belongs to the state is computed."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData):
        self.model, self.data = model, data

    def begin(self, start: SceneState | Snapshot, body_poses: tuple[BodyPose, ...] = ()) -> None:
        """Set the simulation to a start, with bodies put elsewhere.

        Raises:
            SceneStateError, UnknownName: see `scene_state.apply_state`.
        """
        if isinstance(start, SceneState):
            apply_state(self.model, self.data, start)
        else:
            mujoco.mj_resetData(self.model, self.data)
            self.restore(start.physics)
        if body_poses:
            put_bodies(self.model, self.data, body_poses)
            self._derive()

    def full_state(self) -> FullState:
        """Return the complete state, mjSTATE_INTEGRATION: all that determines the simulation's future."""
        physics = np.empty(mujoco.mj_stateSize(self.model, FULL_STATE))
        mujoco.mj_getState(self.model, self.data, physics, FULL_STATE)
        return physics

    def restore(self, physics: FullState) -> None:
        """Return to a state that `full_state` returned."""
        mujoco.mj_setState(self.model, self.data, physics, FULL_STATE)
        self._derive()

    def state(self) -> SimulationState:
        """Return the part of the state that a client sees."""
        data = self.data
        return SimulationState(
            qpos=data.qpos.copy(), qvel=data.qvel.copy(), ctrl=data.ctrl.copy(), time_s=float(data.time)
        )

    def num_steps(self, seconds: float) -> int:
        """Return the number of steps that is nearest to a duration."""
        return round(seconds / self.model.opt.timestep)

    def step(self) -> None:
        """Advance by one time step; `settle` after the last."""
        mujoco.mj_step(self.model, self.data)

    def settle(self) -> None:
        """Compute what belongs to the state that the last step reached.

        Raises:
            SceneUnstable: MuJoCo gave up the simulation and reset it.
        """
        for kind in UNSTABLE:
            if self.data.warning[kind].number:
                raise SceneUnstable(
                    "the simulation became unstable",
                    hint="try a smaller time step, softer actuators, or a start without overlapping bodies",
                )
        self._derive()

    def _derive(self) -> None:
        physics = self.full_state()
        mujoco.mj_forward(self.model, self.data)
        # The solver's warm start is a part of the state, and was just overwritten.
        mujoco.mj_setState(self.model, self.data, physics, FULL_STATE)
