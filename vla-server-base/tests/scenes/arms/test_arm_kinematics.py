"""An arm's poses and their derivatives, and that a simulation is left as it was."""

import mujoco
import numpy as np
import pytest
from controlled_arm import ControlledArm

from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.worker.arms.arm_structure import subtree
from vla_server_base.scenes.worker.arms.rotations import rotation_between


@pytest.fixture(params=["panda", "widowx"])
def sim(request) -> ControlledArm:
    return ControlledArm(bundled_scene(request.param, "tabletop"))


def test_the_jacobian_is_the_derivative_of_the_pose(sim):
    joints = sim.arm.home + 0.1
    position, quaternion, jacobian = sim.arm.linearized(sim.data, joints)
    for joint in range(len(joints)):
        step = np.zeros(len(joints))
        step[joint] = 1e-6
        moved, turned = sim.arm.forward(sim.data, joints + step)
        np.testing.assert_allclose((moved - position) / 1e-6, jacobian[:3, joint], atol=1e-5)
        np.testing.assert_allclose(rotation_between(quaternion, turned) / 1e-6, jacobian[3:, joint], atol=1e-5)


def test_forward_agrees_with_linearized_and_with_where_the_arm_stands(sim):
    position, quaternion, _ = sim.arm.linearized(sim.data, sim.arm.joints(sim.data))
    for other in (sim.arm.pose(sim.data), sim.arm.forward(sim.data, sim.arm.joints(sim.data))):
        np.testing.assert_allclose(other[0], position)
        np.testing.assert_allclose(other[1], quaternion)


def test_asking_for_another_pose_leaves_the_simulation_as_it_was(sim):
    spec = mujoco.mjtState.mjSTATE_INTEGRATION.value
    before, after = (np.empty(mujoco.mj_stateSize(sim.model, spec)) for _ in range(2))
    places = sim.data.xpos.copy(), sim.data.site_xmat.copy()
    mujoco.mj_getState(sim.model, sim.data, before, spec)
    sim.arm.forward(sim.data, sim.arm.home + 0.3)
    sim.arm.linearized(sim.data, sim.arm.home - 0.3)
    mujoco.mj_getState(sim.model, sim.data, after, spec)
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(sim.data.xpos, places[0])
    np.testing.assert_array_equal(sim.data.site_xmat, places[1])


def test_a_joint_without_a_limit_has_infinite_ones(sim):
    limited = sim.model.jnt_limited[sim.arm.joint_ids].astype(bool)
    assert np.isfinite(sim.arm.limits[limited]).all()
    assert np.isinf(sim.arm.limits[~limited]).all()


def test_the_gripper_is_a_part_of_the_robot_and_the_table_is_not(sim):
    assert sim.arm.gripper_bodies < sim.arm.bodies
    assert sim.model.body("red_cube").id not in sim.arm.bodies


def test_a_subtree_is_a_body_with_all_bodies_below_it():
    model = mujoco.MjModel.from_xml_string(
        """<mujoco><worldbody><body name="a"><body name="b"><body name="c"/></body><body name="d"/></body>
        <body name="e"/></worldbody></mujoco>"""
    )
    named = {name: model.body(name).id for name in "abcde"}
    assert subtree(model, named["a"]) == {named[name] for name in "abcd"}
    assert subtree(model, named["b"]) == {named["b"], named["c"]}
    assert subtree(model, named["e"]) == {named["e"]}
    assert len(subtree(model, 0)) == model.nbody
