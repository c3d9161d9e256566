"""Reads pickles from clients without calling anything that they name: plain values, numpy's arrays, known records.

A pickle is a program for a stack machine. The machine here keeps names as names and arrays as bytes, shape and dtype
until all of these are checked; neither `pickle` nor numpy sees a client's state. It reads what protocols 3 to 5
write. Follows CPython's Lib/pickletools.py.
"""

import pickletools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from vla_server_base.errors import ProtocolError
from vla_server_base.protocols.pickle_machine import PickleMachine
from vla_server_base.protocols.pickle_values import SUPPORTED, PickledRecord

MAX_OPCODES = 20_000
"""Of one message: each makes at most one object, or refers once more to an existing one."""


def unpickle(message: bytes, name: str) -> PickledRecord:
    """Return the record of this name that a pickle holds, the arrays in it read-only; not for the event loop.

    Arrays are read as values of dicts, at any depth; dicts have text keys.

    Raises:
        ProtocolError: it is not such a pickle, or names something unknown.
    """
    machine = PickleMachine()
    try:
        for num_before, (opcode, argument, _) in enumerate(pickletools.genops(message)):
            if num_before >= MAX_OPCODES:
                raise ProtocolError(f"the pickle has more than {MAX_OPCODES} opcodes", hint="send numbers as arrays")
            _step(machine, opcode.name, argument)
        record = machine.result()
    except ProtocolError:
        raise
    except Exception as error:
        # Invalid bytes raise many errors: IndexError, struct.error, UnicodeError, ...
        raise ProtocolError(
            f"the message cannot be read as a pickle ({type(error).__name__})", hint=SUPPORTED
        ) from error
    if not isinstance(record, PickledRecord) or record.name != name:
        raise ProtocolError(f"the pickle does not hold a {name}", hint=f"send a pickled {name} of LeRobot's")
    return record


def _step(machine: PickleMachine, opcode: str, argument: Any) -> None:
    if opcode not in _STEPS:
        raise ProtocolError(f"the pickle has the opcode {opcode}, which is not supported", hint="send protocol 3 to 5")
    _STEPS[opcode](machine, argument)


_Step = Callable[[PickleMachine, Any], None]
_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
_BYTES = ("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8")

_STEPS: Mapping[str, _Step] = MappingProxyType(
    {
        **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda *_: None),
        **dict.fromkeys(_NUMBERS, lambda machine, number: machine.push_number(number)),
        **dict.fromkeys(_TEXTS, lambda machine, text: machine.push_text(text)),
        **dict.fromkeys(_BYTES, lambda machine, data: machine.push(bytes(data))),
        "NONE": lambda machine, _: machine.push(None),
        "NEWTRUE": lambda machine, _: machine.push(True),
        "NEWFALSE": lambda machine, _: machine.push(False),
        "MARK": lambda machine, _: machine.mark(),
        "EMPTY_TUPLE": lambda machine, _: machine.push(()),
        "TUPLE1": lambda machine, _: machine.push(tuple(machine.last(1))),
        "TUPLE2": lambda machine, _: machine.push(tuple(machine.last(2))),
        "TUPLE3": lambda machine, _: machine.push(tuple(machine.last(3))),
        "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
        "EMPTY_LIST": lambda machine, _: machine.push([]),
        "APPEND": lambda machine, _: machine.append(machine.last(1)),
        "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
        "EMPTY_DICT": lambda machine, _: machine.push({}),
        "SETITEM": lambda machine, _: machine.set_items(machine.last(2)),
        "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
        **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), lambda machine, index: machine.memoize(index)),
        **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, index: machine.recall(index)),
        **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), lambda machine, name: machine.push_name(name)),
        "REDUCE": lambda machine, _: machine.call(),
        "NEWOBJ": lambda machine, _: machine.make(),
        "BUILD": lambda machine, _: machine.build(),
    }
)
