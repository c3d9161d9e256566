"""What every reply's body is, and the one form of every error."""

import pydantic


class Reply(pydantic.BaseModel):
    """A reply's body."""

    model_config = pydantic.ConfigDict(use_attribute_docstrings=True)


class ErrorBody(Reply):
    """What went wrong: a code for programs, a sentence for people, and what to do instead."""

    code: str
    message: str
    hint: str | None


class ErrorReply(Reply):
    """What every error is answered with."""

    error: ErrorBody
    request_id: str
