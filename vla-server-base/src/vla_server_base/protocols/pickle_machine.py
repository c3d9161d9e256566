"""The stack machine of a pickle, without any call to what the pickle names."""

from typing import Any

from vla_server_base.errors import ProtocolError
from vla_server_base.protocols.pickle_values import (
    FUNCTIONS,
    KNOWN_NAMES,
    RECORDS,
    SUPPORTED,
    GlobalName,
    PickledArray,
    PickledRecord,
    set_state,
)

MAX_NAME_CHARS = 80


class PickleMachine:
    """The stack and the memo of a pickle; a mark begins a new part of the stack.

    A step raises any exception where the pickle makes no sense, such as IndexError.
    """

    def __init__(self):
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        """Return the object that the pickle holds."""
        (content,) = self._stack
        return content

    def push(self, value: Any) -> None:
        """Push a value."""
        self._stack.append(value)

    def push_number(self, number: float) -> None:
        """Push a number of at most 64 bits, as numpy's."""
        if type(number) is int and number.bit_length() > 63:
            raise ProtocolError("the pickle has a number of more than 64 bits", hint="send smaller numbers")
        self._stack.append(number)

    def push_text(self, text: str) -> None:
        """Push text; lone surrogates, which a pickle can hold, raise UnicodeEncodeError."""
        text.encode()
        self._stack.append(text)

    def push_name(self, argument: str | None) -> None:
        """Push the name of a global."""
        if argument is None:
            name, module = self._stack.pop(), self._stack.pop()
        else:
            module, _, name = argument.partition(" ")
        # Hash or show nothing before checking that it is flat: tuples that share their parts grow without bound.
        if type(module) is not str or type(name) is not str:
            raise ProtocolError("the pickle has a name that is not text", hint=SUPPORTED)
        if (module, name) not in KNOWN_NAMES:
            raise ProtocolError(
                f"the pickle names '{f'{module}.{name}'[:MAX_NAME_CHARS]}', which is not supported", hint=SUPPORTED
            )
        self._stack.append(GlobalName(module, name))

    def mark(self) -> None:
        """Begin a new part of the stack."""
        self._below.append(self._stack)
        self._stack = []

    def since_mark(self) -> list[Any]:
        """Pop the part above the last mark."""
        values, self._stack = self._stack, self._below.pop()
        return values

    def last(self, count: int) -> list[Any]:
        """Pop `count` values, the top one last."""
        return [self._stack.pop() for _ in range(count)][::-1]

    def append(self, values: list[Any]) -> None:
        """Add values to the list on top."""
        top = self._stack[-1]
        if type(top) is not list:
            raise ProtocolError("the pickle appends to an object that is not a list", hint=SUPPORTED)
        top += values

    def set_items(self, values: list[Any]) -> None:
        """Add pairs to the dict on top."""
        top = self._stack[-1]
        if type(top) is not dict:
            raise ProtocolError("the pickle sets items of an object that is not a dict", hint=SUPPORTED)
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) is not str:
                raise ProtocolError(f"a dict's key is {type(key).__name__}, not text", hint="send dicts with text keys")
            top[key] = value.content if isinstance(value, PickledArray) else value

    def memoize(self, index: int | None) -> None:
        """Store the top in the memo."""
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def recall(self, index: int) -> None:
        """Push a value of the memo."""
        self._stack.append(self._memo[index])

    def call(self) -> None:
        """Push what a known function would return."""
        named, arguments = self.last(2)
        if not isinstance(named, GlobalName) or named.name not in FUNCTIONS or type(arguments) is not tuple:
            raise ProtocolError("the pickle calls an object that is not a known function", hint=SUPPORTED)
        self._stack.append(FUNCTIONS[named.name](*arguments))

    def make(self) -> None:
        """Push an empty record."""
        named, arguments = self.last(2)
        if not isinstance(named, GlobalName) or named.name not in RECORDS or arguments:
            raise ProtocolError("the pickle makes an object that is not a known record", hint=SUPPORTED)
        self._stack.append(PickledRecord(module=named.module, name=named.name, fields={}))

    def build(self) -> None:
        """Give the object on top its state."""
        state, built = self._stack.pop(), self._stack[-1]
        set_state(built, state)
