"""The contract of a policy that requires cameras and state, reads no instruction, and acts in joints."""

import pytest

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.testing import JointEcho
from vla_server_base.testing.contract import AdapterContract
from vla_server_base.testing.policy_inputs import a_window, camera_subsets, tasks


@pytest.fixture
def adapter() -> VLAModelAdapter:
    return JointEcho()


class TestJointEcho(AdapterContract):
    """It keeps the contract that every adapter keeps."""


def test_its_inputs_are_those_that_it_requires(adapter: VLAModelAdapter):
    assert camera_subsets(adapter) == [["top", "left_wrist"]]
    assert [task.instruction for task in tasks(adapter)] == [None, "pick up the red cube"]
    observation = a_window(adapter).observations[-1]
    assert observation.proprio is not None
    assert len(observation.proprio) == 8
