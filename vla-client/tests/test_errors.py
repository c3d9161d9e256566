"""The tree of errors: codes for programs, sentences for people, and what a server's text becomes."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vla_client import errors
from vla_client.errors import (
    DeadlineExceeded,
    ObservationError,
    PolicyError,
    ProtocolError,
    RequestError,
    SessionLost,
    Unauthorized,
    Unreachable,
    VLAError,
    error_from_text,
)

CLASSES = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, VLAError)]


def test_the_tree_in_the_docstring_is_that_of_the_classes():
    lines = re.findall(
        r"^([│├└─ ]*)(\w+) +(?:\d{3}|the code|\w+_\w+|observation|unreachable)", errors.__doc__ or "", re.MULTILINE
    )
    drawn, path = {}, []
    for indent, name in lines:
        path = [*path[: len(indent) // 4], name]
        drawn[name] = path[-2] if len(path) > 1 else "Exception"
    assert drawn == {error.__name__: error.__bases__[0].__name__ for error in CLASSES}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (VLAError, 500, "internal"),
        (RequestError, 422, "invalid_request"),
        (ProtocolError, 422, "protocol"),
        (Unauthorized, 401, "unauthorized"),
        (SessionLost, 500, "session_lost"),
        (Unreachable, 500, "unreachable"),
        (ObservationError, 500, "observation"),
    ],
)
def test_an_error_has_the_status_and_the_code_of_its_class(error, status, code):
    raised = error("it broke", hint="repair it")
    assert (raised.status, raised.code, raised.message, raised.hint) == (status, code, "it broke", "repair it")
    assert str(raised) == "it broke"


def test_a_sentence_has_the_hint_and_a_text_the_code_and_the_request_too():
    error = RequestError("it is too long", hint="shorten it")
    assert error.as_sentence() == "it is too long; shorten it"
    assert error.as_text("1f") == "invalid_request: it is too long; shorten it (request_id 1f)"


def test_errors_can_be_caught_as_those_of_the_standard_library():
    with pytest.raises(ConnectionError):
        raise Unreachable("no answer", hint="start the server")
    with pytest.raises(ValueError, match="too large"):
        raise ObservationError("too large", hint="send less")


@example("unknown_dataset", "dataset 'a (request_id b' is not known", "1f")
@given(
    st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True), st.text(), st.from_regex(r"[0-9a-f]{1,32}", fullmatch=True)
)
def test_the_text_of_an_error_comes_back_as_its_parts(code, message, request_id):
    error = PolicyError(f"{code}: {message} (request_id {request_id})")
    assert (error.code, error.message, error.request_id) == (code, message, request_id)


def test_a_text_without_a_request_id_has_none():
    error = PolicyError("overloaded: 8 requests are waiting")
    assert (error.code, error.message, error.request_id) == ("overloaded", "8 requests are waiting", None)


@pytest.mark.parametrize("text", ["", "Traceback: it broke", "no colon", "Upper: case"])
def test_any_other_text_is_the_message_of_an_unknown_error(text):
    error = PolicyError(text)
    assert (error.code, error.message, error.request_id) == ("unknown", text, None)
    assert error.hint


def test_a_passed_deadline_is_a_class_of_its_own_that_is_a_policy_error():
    error = error_from_text("deadline_exceeded: no answer within 50 ms (request_id 1f)")
    assert type(error) is DeadlineExceeded
    assert isinstance(error, PolicyError)
    assert error.hint.startswith("hold still")
    assert type(error_from_text("superseded: a newer one came (request_id 1f)")) is PolicyError
