"""The echo adapter keeps the contract that it helps others to test, and answers as its docstring says."""

import numpy as np
import pytest

from vla_server_base.contract import Observation, PolicyInput, Task
from vla_server_base.sessions.action_chunking import ObservationWindow
from vla_server_base.testing import EchoAdapter
from vla_server_base.testing.contract import AdapterContract
from vla_server_base.testing.echo import instruction_number, noise


@pytest.fixture(scope="module")
def adapter():
    return EchoAdapter()


class TestEchoAdapter(AdapterContract):
    pass


def test_the_echo_is_what_the_docstring_says():
    adapter = EchoAdapter()
    picture = np.full((2, 2, 3), (255, 0, 51), np.uint8)
    seen = Observation(images={"primary": picture}, proprio=np.array([0.5, 0.25, 0.0]))
    policy_input = PolicyInput(
        observation=adapter.preprocess_observation(ObservationWindow(2).append(seen)),
        task=adapter.preprocess_instruction(Task(instruction="go", goal_images={"primary": picture})),
        seed=3,
        step=5,
    )
    chunk = adapter.predict([policy_input])[0][0]
    goal = 1 + (255 + 0 + 51) / 3 / 255
    expected = [1.0, 0.0, 0.2, 0.0, instruction_number("go") + goal, 1.75, noise(3, 5)]
    np.testing.assert_allclose(chunk, np.outer([1, 2, 3, 4], expected))


def test_a_dataset_un_normalizes_all_but_the_gripper():
    chunk = np.full((4, 7), 0.25)
    action = EchoAdapter().postprocess_action(chunk, "echo_doubled", "standard")
    assert action.action.tolist() == [1.5] * 6 + [0.25, 0.25]
    assert action.action_names[-2:] == ("gripper", "gripper")
