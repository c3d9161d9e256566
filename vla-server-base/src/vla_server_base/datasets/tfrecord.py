"""TFRecord files, and the tf.train.Example messages in them, without TensorFlow.

A record is its length (uint64), that number's checksum, the bytes, and their checksum (uint32, masked crc32c): see
"TFRecord and tf.train.Example" in TensorFlow's documentation, and tensorflow/core/example/{example,feature}.proto.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from vla_server_base.errors import DatasetError

COPY_AGAIN = "copy the file again"
LENGTH, CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")


@dataclass(frozen=True, kw_only=True)
class RecordLocation:
    """Where the bytes of a record are."""

    path: Path
    number: int
    start: int
    length: int


def find_records(path: Path) -> list[RecordLocation]:
    """Return where the records of a file are; only their lengths are read.

    Raises:
        DatasetError: the file is damaged or truncated.
    """
    records, position, size = [], 0, path.stat().st_size
    with path.open("rb") as file:
        while position < size:
            head = file.read(LENGTH.size + CHECKSUM.size)
            if len(head) < LENGTH.size + CHECKSUM.size or not _is_whole(head[: LENGTH.size], head[LENGTH.size :]):
                raise DatasetError(f"{path}: record {len(records)} at byte {position} is damaged", hint=COPY_AGAIN)
            (length,) = LENGTH.unpack(head[: LENGTH.size])
            start = position + len(head)
            position = file.seek(start + length + CHECKSUM.size)
            if position > size:
                raise DatasetError(f"{path}: record {len(records)} is truncated", hint=COPY_AGAIN)
            records.append(RecordLocation(path=path, number=len(records), start=start, length=length))
    return records


def read_example(record: RecordLocation) -> dict[str, np.ndarray | list[bytes]]:
    """Return the features of the tf.train.Example that a record holds: numbers, or lists of bytes.

    Raises:
        DatasetError: the record is damaged, or is another message.
    """
    with record.path.open("rb") as file:
        file.seek(record.start)
        content, checksum = file.read(record.length), file.read(CHECKSUM.size)
    if not _is_whole(content, checksum):
        raise DatasetError(
            f"{record.path}: record {record.number} is damaged: its checksum does not match", hint=COPY_AGAIN
        )
    try:
        features = EXAMPLE.FromString(content).features.feature
    except DecodeError as error:
        raise DatasetError(
            f"{record.path}: record {record.number} is not a tf.train.Example ({error})",
            hint="name a dataset that TensorFlow Datasets wrote",
        ) from error
    return {name: _values(feature) for name, feature in features.items()}


def _values(feature: Any) -> np.ndarray | list[bytes]:
    kind = feature.WhichOneof("kind")
    if kind == "bytes_list":
        return list(feature.bytes_list.value)
    if kind == "float_list":
        return np.array(feature.float_list.value, np.float32)
    return np.array(feature.int64_list.value, np.int64)


def _is_whole(content: bytes, checksum: bytes) -> bool:
    """Compare with the checksum, which is masked: rotated, and shifted by a constant."""
    crc = google_crc32c.value(content)
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    return checksum == CHECKSUM.pack(masked)


def _example_message() -> Any:
    """Return the class of the message, which is described here because its package is TensorFlow."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="tf_example.proto", package="tf_example", syntax="proto3")

    def message(name: str, *fields: Any) -> Any:
        return file.message_type.add(name=name, field=fields)

    def one(name: str, number: int, kind: str, **more: Any) -> Any:
        return field(name=name, number=number, type=field.TYPE_MESSAGE, type_name=f".tf_example.{kind}", **more)

    for name, kind in (("Bytes", field.TYPE_BYTES), ("Float", field.TYPE_FLOAT), ("Int64", field.TYPE_INT64)):
        message(f"{name}List", field(name="value", number=1, type=kind, label=field.LABEL_REPEATED))
    lists = [one(f"{kind.lower()}_list", n, f"{kind}List", oneof_index=0) for n, kind in enumerate(KINDS, 1)]
    message("Feature", *lists).oneof_decl.add(name="kind")
    features = message("Features", one("feature", 1, "Features.FeatureEntry", label=field.LABEL_REPEATED))
    key = field(name="key", number=1, type=field.TYPE_STRING)
    entry = features.nested_type.add(name="FeatureEntry", field=[key, one("value", 2, "Feature")])
    entry.options.map_entry = True
    message("Example", one("features", 1, "Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tf_example.Example"))


KINDS = ("Bytes", "Float", "Int64")
EXAMPLE = _example_message()
