"""The tree of the server's errors, drawn at the head of its module, is that of its classes."""

import re

from vla_client.errors import ProtocolError, RequestError
from vla_client.errors import VLAError as ClientsVLAError
from vla_server_base import errors
from vla_server_base.errors import VLAError


def drawn_parents(docstring: str) -> dict[str, str]:
    """The parent of each class that is drawn, by name."""
    parents, path = {}, []
    for indent, name in re.findall(r"^((?:[│├└─ ]{4})*)([A-Z]\w+) +\d{3} ", docstring, re.MULTILINE):
        path = [*path[: len(indent) // 4], name]
        parents[name] = path[-2] if len(path) > 1 else "Exception"
    return parents


def test_the_tree_in_the_docstring_is_that_of_the_classes():
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, VLAError)]
    assert drawn_parents(errors.__doc__ or "") == {error.__name__: error.__bases__[0].__name__ for error in classes}


def test_the_statuses_and_codes_in_the_docstring_are_those_of_the_classes():
    drawn = re.findall(
        r"([A-Z]\w+) +(\d{3}) +(\w+)$|([A-Z]\w+) +(\d{3}) +(\w+) +\(", errors.__doc__ or "", re.MULTILINE
    )
    rows = [row[:3] if row[0] else row[3:] for row in drawn]
    assert len(rows) > 30
    assert [(name, str(getattr(errors, name).status), getattr(errors, name).code) for name, *_ in rows] == rows


def test_the_server_raises_the_clients_errors_where_both_ends_need_them():
    assert VLAError is ClientsVLAError
    assert errors.ProtocolError is ProtocolError
    assert issubclass(ProtocolError, RequestError)
    assert (ProtocolError.status, ProtocolError.code) == (422, "protocol")
