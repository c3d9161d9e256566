"""Which session a step belongs to, where its client names none."""

import numpy as np
import pytest

from vla_server_base.contract import Observation, Task
from vla_server_base.sessions.requests import StepRequest

SEEN = Observation(images={"primary": np.zeros((4, 4, 3), np.uint8)})


def request(**fields) -> StepRequest:
    return StepRequest(observation=SEEN, task=Task(instruction="go"), **fields)


def test_on_a_connection_it_is_the_connections_session():
    step = request().on_connection("socket:1")
    assert (step.session_id, step.connection, step.scope) == ("socket:1", "socket:1", "episode")


def test_at_an_address_it_is_the_addresss_session_and_each_request_states_its_settings():
    step = request().from_address("act:10.0.0.1")
    assert (step.session_id, step.connection, step.scope) == ("act:10.0.0.1", None, "request")


@pytest.mark.parametrize("name", ["session_id", "token"])
def test_a_session_that_the_client_names_is_kept(name):
    named = request(**{name: "arm"})
    on_connection = named.on_connection("socket:1")
    assert (getattr(on_connection, name), on_connection.scope) == ("arm", "session")
    assert on_connection.connection == "socket:1", "for which the connection's former session ends"
    assert named.from_address("act:10.0.0.1") is named
