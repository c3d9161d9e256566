"""What every reply's body is, and the one form of every error."""

import json
from typing import NoReturn

import pydantic

from vla_server_base.errors import NotFinite


class Reply(pydantic.BaseModel):
    """A reply's body; what JSON has no number for never leaves as one."""

    model_config = pydantic.ConfigDict(use_attribute_docstrings=True, ser_json_inf_nan="constants")

    def to_json(self) -> bytes:
        """Return the JSON of what is set.

        Raises:
            NotFinite: there is a number in it that is none.
        """
        written = self.model_dump_json(exclude_unset=True).encode()
        if b"NaN" in written or b"Infinity" in written:
            # Names and texts may hold these words too.
            json.loads(written, parse_constant=_refuse)
        return written


def _refuse(constant: str) -> NoReturn:
    raise NotFinite(f"the answer holds {constant} where a number belongs", hint="nothing of it is sent")


class ErrorBody(Reply):
    """What went wrong: a code for programs, a sentence for people, and what to do instead."""

    code: str
    message: str
    hint: str | None


class ErrorReply(Reply):
    """What every error is answered with."""

    error: ErrorBody
    request_id: str
