"""LeRobot's protobuf messages, built from a description, and messages in chunks.

Follows transport/services.proto of huggingface/lerobot 0.4.
"""

from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

from vla_server_base.errors import BodyTooLarge, ProtocolError

_BEGIN, _MIDDLE, _END = 1, 2, 3
_STATES = {"TRANSFER_UNKNOWN": 0, "TRANSFER_BEGIN": _BEGIN, "TRANSFER_MIDDLE": _MIDDLE, "TRANSFER_END": _END}


class ChunkedMessage:
    """A message of at most `max_bytes`, from the chunks of a stream."""

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._num_bytes = 0

    def add(self, chunk: bytes) -> bool:
        """Add a chunk and return whether it is the last.

        Raises:
            ProtocolError: it is not a chunk.
            BodyTooLarge: the message is over the limit.
        """
        part = parse("Observation", chunk)
        if part.transfer_state not in (_BEGIN, _MIDDLE, _END):
            raise ProtocolError(
                f"transfer_state {part.transfer_state} is not known",
                hint="send TRANSFER_BEGIN, TRANSFER_MIDDLE or TRANSFER_END",
            )
        if part.transfer_state == _BEGIN:
            self._parts, self._num_bytes = [], 0
        self._num_bytes += len(part.data)
        if self._num_bytes > self._max_bytes:
            raise BodyTooLarge(
                f"the observation is over this server's limit of {self._max_bytes} bytes",
                hint="send smaller images; VLA_MAX_BODY_MB raises the limit",
            )
        self._parts.append(part.data)
        return part.transfer_state == _END

    def joined(self) -> bytes:
        """Return the message; not for the event loop."""
        return b"".join(self._parts)


def parse(name: str, message: bytes) -> Any:
    """Return a message of a kind.

    Raises:
        ProtocolError: it is not one.
    """
    try:
        return MESSAGES[name].FromString(message)
    except DecodeError as error:
        raise ProtocolError(
            f"the message cannot be parsed as protobuf's {name}", hint="send what LeRobot's services.proto describes"
        ) from error


def _message_types() -> dict[str, Any]:
    """Build the messages in a separate pool, so that LeRobot's own can be loaded too."""
    described = FileDescriptorProto(name="lerobot.proto", package="transport", syntax="proto3")
    states = described.enum_type.add(name="TransferState")
    for name, number in _STATES.items():
        states.value.add(name=name, number=number)
    for name in ("Observation", "Actions", "PolicySetup"):
        message = described.message_type.add(name=name)
        if name == "Observation":
            state = message.field.add(name="transfer_state", number=1, type=FieldDescriptorProto.TYPE_ENUM)
            state.type_name = ".transport.TransferState"
        message.field.add(name="data", number=len(message.field) + 1, type=FieldDescriptorProto.TYPE_BYTES)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(described.SerializeToString())
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"transport.{message.name}"))
        for message in described.message_type
    }


MESSAGES = _message_types()
