"""LeRobot's protobuf messages, and an observation in chunks."""

import pytest

from vla_server_base.errors import BodyTooLarge, ProtocolError
from vla_server_base.protocols.lerobot_protobuf import MESSAGES, ChunkedMessage, parse

BEGIN, MIDDLE, END = 1, 2, 3


def chunk(state: int, data: bytes) -> bytes:
    return MESSAGES["Observation"](transfer_state=state, data=data).SerializeToString()


def test_a_message_is_read_as_it_was_written():
    message = parse("PolicySetup", MESSAGES["PolicySetup"](data=b"setup").SerializeToString())
    assert message.data == b"setup"


@pytest.mark.parametrize("name", ["Observation", "PolicySetup"])
def test_other_bytes_are_refused_by_the_messages_name(name):
    with pytest.raises(ProtocolError, match=f"cannot be parsed as protobuf's {name}") as raised:
        parse(name, b"\xff")
    assert "services.proto" in raised.value.hint


def test_chunks_are_joined_in_order():
    message = ChunkedMessage(100)
    states = [(BEGIN, b"ab"), (MIDDLE, b"cd"), (END, b"e")]
    assert [message.add(chunk(state, data)) for state, data in states] == [False, False, True]
    assert message.joined() == b"abcde"


def test_a_new_beginning_drops_what_came_before():
    message = ChunkedMessage(4)
    message.add(chunk(BEGIN, b"abcd"))
    message.add(chunk(BEGIN, b"ef"))
    assert message.add(chunk(END, b"gh"))
    assert message.joined() == b"efgh"


def test_a_chunk_beyond_the_limit_is_refused_with_the_setting_that_raises_it():
    message = ChunkedMessage(4)
    message.add(chunk(BEGIN, b"abc"))
    with pytest.raises(BodyTooLarge, match="limit of 4 bytes") as raised:
        message.add(chunk(END, b"de"))
    assert "VLA_MAX_BODY_MB" in raised.value.hint


def test_a_chunk_of_an_unknown_state_is_refused():
    with pytest.raises(ProtocolError, match="transfer_state 0 is not known") as raised:
        ChunkedMessage(4).add(chunk(0, b"a"))
    assert "TRANSFER_BEGIN" in raised.value.hint
