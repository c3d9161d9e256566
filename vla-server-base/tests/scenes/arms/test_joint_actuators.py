"""Controls move joints to their targets, whatever the actuators are."""

import mujoco
import numpy as np
import pytest

from vla_server_base.errors import SceneError
from vla_server_base.scenes.robots import RobotDescription
from vla_server_base.scenes.worker.arms.arm import Arm
from vla_server_base.scenes.worker.arms.joint_actuators import JointActuators

SCENE = """<mujoco><option integrator="implicitfast"/><worldbody><body name="upper" pos="0 0 1">
<joint name="shoulder" axis="0 1 0" damping="0.1"/><geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.03" mass="1"/>
<body name="lower" pos="0.3 0 0"><joint name="elbow" axis="0 1 0" damping="0.1"/>
<geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.02" mass="0.5"/></body></body></worldbody>
<actuator>{actuators}</actuator></mujoco>"""
SERVO = '<position name="{joint}_servo" joint="{joint}" kp="500" kv="20" {rest}/>'
MOTOR = '<motor name="{joint}_motor" joint="{joint}" gear="2" {rest}/>'
VELOCITY = '<velocity name="{joint}_speed" joint="{joint}" kv="5" {rest}/>'


def arm_with(*actuators: str) -> Arm:
    model = mujoco.MjModel.from_xml_string(SCENE.format(actuators="".join(actuators)))
    return Arm(model, RobotDescription(name="arm", joints=("shoulder", "elbow"), end_effector="lower"))


def both(kind: str, rest: str = "") -> list[str]:
    return [kind.format(joint=joint, rest=rest) for joint in ("shoulder", "elbow")]


def settled(arm: Arm, targets: np.ndarray, seconds: float = 3.0) -> np.ndarray:
    data, actuators = mujoco.MjData(arm.model), JointActuators(arm)
    mujoco.mj_forward(arm.model, data)
    for _ in range(round(seconds / arm.model.opt.timestep)):
        actuators.write(data, targets, np.zeros(2))
        mujoco.mj_step(arm.model, data)
    return arm.joints(data).copy()


@pytest.mark.parametrize("kind", [MOTOR, VELOCITY])
def test_actuators_that_push_reach_their_targets_against_gravity(kind):
    np.testing.assert_allclose(settled(arm_with(*both(kind)), np.array([0.4, -0.7])), [0.4, -0.7], atol=1e-3)


def test_servos_come_near_and_sag_by_what_they_carry():
    joints = settled(arm_with(*both(SERVO)), np.array([0.4, -0.7]))
    np.testing.assert_allclose(joints, [0.4, -0.7], atol=0.03)


def test_servos_and_motors_may_be_mixed_in_one_arm():
    arm = arm_with(SERVO.format(joint="shoulder", rest=""), MOTOR.format(joint="elbow", rest=""))
    assert JointActuators(arm).are_servos.tolist() == [True, False]
    np.testing.assert_allclose(settled(arm, np.array([0.4, -0.7])), [0.4, -0.7], atol=0.03)


def test_the_targets_of_servos_are_their_controls_and_of_motors_where_joints_are():
    arm = arm_with(SERVO.format(joint="shoulder", rest=""), MOTOR.format(joint="elbow", rest=""))
    data = mujoco.MjData(arm.model)
    data.qpos[:], data.ctrl[:] = [0.1, 0.2], [0.5, 0.9]
    np.testing.assert_allclose(JointActuators(arm).targets(data), [0.5, 0.2])


def test_servos_reach_what_their_controls_ranges_allow_and_motors_everything():
    arm = arm_with(SERVO.format(joint="shoulder", rest='ctrlrange="-1 2"'), MOTOR.format(joint="elbow", rest=""))
    np.testing.assert_allclose(JointActuators(arm).reach(), [[-1, 2], [-np.inf, np.inf]])


def test_a_control_ends_at_its_range():
    arm = arm_with(*both(SERVO, 'ctrlrange="-1 1"'))
    data = mujoco.MjData(arm.model)
    JointActuators(arm).write(data, np.array([5.0, -5.0]), np.zeros(2))
    np.testing.assert_allclose(data.ctrl, [1, -1])


def test_of_several_actuators_the_servo_is_the_one():
    arm = arm_with(*both(MOTOR), *both(SERVO))
    data = mujoco.MjData(arm.model)
    JointActuators(arm).write(data, np.array([0.3, 0.2]), np.zeros(2))
    np.testing.assert_allclose(data.ctrl, [0, 0, 0.3, 0.2])


@pytest.mark.parametrize(
    ("actuators", "message"),
    [
        (both(SERVO)[:1], "joint 'elbow' has no actuator"),
        ([*both(SERVO), *both(MOTOR), SERVO.format(joint="elbow", rest="").replace("elbow_servo", "twin")], "elbow"),
        ([both(SERVO)[0], '<general name="odd" joint="elbow" gainprm="0"/>'], "no single actuator .* odd"),
        ([both(SERVO)[0], '<general name="slow" joint="elbow" dyntype="integrator"/>'], "no single actuator .* slow"),
    ],
)
def test_a_joint_without_one_actuator_that_takes_a_target_is_refused_with_a_hint(actuators, message):
    with pytest.raises(SceneError, match=message) as caught:
        JointActuators(arm_with(*actuators))
    assert "<position" in caught.value.hint
