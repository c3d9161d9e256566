"""Which recording an error is about."""

from collections.abc import Iterator
from contextlib import contextmanager

from vla_server_base.errors import DatasetError


@contextmanager
def error_context(what: str) -> Iterator[None]:
    """Begin the message of a DatasetError raised in this block with what it is about, such as an episode."""
    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"{what}: {error.message}", hint=error.hint) from error
