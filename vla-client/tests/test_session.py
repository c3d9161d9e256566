"""The client's side of a session: what each message says, and how a forgotten session is noticed."""

import pytest

from vla_client.errors import ObservationError, SessionLost
from vla_client.session import ClientSession, check_fields, new_session


@pytest.fixture
def session() -> ClientSession:
    return new_session("arm-1", 3, {"execution": "chunk", "dataset": None}, keeps_token=True)


def test_an_id_and_a_seed_that_are_left_out_are_drawn():
    one, other = (new_session(None, None, {}, keeps_token=False) for _ in range(2))
    assert one.id != other.id
    assert one.seed != other.seed
    assert len(one.id) == 32
    assert 0 <= one.seed < 2**32


def test_a_first_step_starts_an_episode_with_the_seed_and_the_settings(session):
    session.sequence = 0
    assert session.step_fields(as_token=False) == {
        "session_id": "arm-1",
        "reset": True,
        "seed": 3,
        "sequence": 0,
        "execution": "chunk",
        "return_token": True,
    }


def test_a_later_step_says_neither(session):
    session.answered({"seed": 3})
    fields = session.step_fields(as_token=False)
    assert fields["session_id"] == "arm-1"
    assert not {"reset", "seed"} & fields.keys()


def test_a_token_names_the_session_in_the_place_of_its_id(session):
    session.answered({"seed": 3, "token": "t"})
    fields = session.step_fields(as_token=True)
    assert fields["session_token"] == "t"
    assert "session_id" not in fields
    assert session.step_fields(as_token=False)["session_id"] == "arm-1"


def test_without_a_token_the_id_names_the_session(session):
    session.answered({"seed": 3})
    assert session.step_fields(as_token=True)["session_id"] == "arm-1"


def test_the_token_is_taken_out_of_the_answer(session):
    fields = {"seed": 3, "token": "t", "step": 0}
    session.answered(fields)
    assert fields == {"seed": 3, "step": 0}
    assert session.token == "t"


def test_a_first_step_is_never_sent_to_the_same_session_twice(session):
    session.left_unanswered()
    assert session.id == "arm-1+1"
    session.left_unanswered()
    assert session.id == "arm-1+2"


def test_a_later_step_is_repeated_in_the_same_session(session):
    session.answered({"seed": 3})
    session.left_unanswered()
    assert session.id == "arm-1"


def test_another_seed_shows_that_the_server_has_forgotten_the_session(session):
    session.answered({"seed": 3})
    session.sequence = 7
    with pytest.raises(SessionLost, match=r"has forgotten session 'arm-1'.*; step 7 was answered") as raised:
        session.answered({"seed": 4})
    assert raised.value.hint.startswith("call reset()")


def test_a_new_episode_keeps_the_seed_unless_there_is_another(session):
    session.answered({"seed": 3, "token": "t"})
    session.begin(None)
    assert (session.begins, session.seed, session.token) == (True, 3, None)
    session.begin(9)
    assert session.seed == 9


def test_an_observation_says_nothing_of_its_session():
    check_fields({"primary": 1, "instruction": "go", "obs_time": 3.0})
    with pytest.raises(ObservationError, match="the fields execution, reset, seed, which the client sets itself"):
        check_fields({"primary": 1, "seed": 3, "reset": True, "execution": "chunk"})
