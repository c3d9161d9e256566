"""The session's fields in a message of any protocol."""

import pytest

from vla_server_base.errors import RequestError
from vla_server_base.protocols.message_fields import MessageFields, message_fields
from vla_server_base.protocols.named_values import named_values


def fields(**message) -> MessageFields:
    return message_fields(message, named_values(message))


def test_other_values_are_ignored():
    assert fields(image="...", speed=3) == MessageFields()


def test_a_message_says_which_session_step_and_seed():
    assert fields(session_id="arm", sequence=4, seed=7, reset=True) == MessageFields(
        session_id="arm", sequence=4, seed=7, reset=True
    )


@pytest.mark.parametrize("name", ["dataset", "unnorm_key"])
def test_a_dataset_has_two_names(name):
    assert getattr(fields(**{name: "bridge"}), name) == "bridge"
    assert fields(dataset="bridge", unnorm_key="bridge").dataset == "bridge"


def test_two_datasets_are_refused():
    with pytest.raises(RequestError, match="name two datasets") as raised:
        fields(dataset="bridge", unnorm_key="fractal")
    assert raised.value.hint == "send one of them"


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ({"session_id": "a", "session_token": "b"}, "both name a session"),
        ({"sequence": -1}, "sequence"),
        ({"execution_horizon": 2}, "only be given together with execution chunk"),
        ({"seed": 1.5}, "seed"),
        ({"observation": {"temperature": 0.5}}, "temperature: this server does not support it"),
    ],
)
def test_an_invalid_or_unsupported_field_is_named(message, problem):
    with pytest.raises(RequestError, match=problem):
        fields(**message)
