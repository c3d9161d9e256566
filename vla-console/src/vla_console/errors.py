"""What the console refuses, in the form that errors of the servers have."""

from starlette.responses import JSONResponse


class ConsoleError(Exception):
    """An error that the page sees: a code for programs, a sentence for people, and a hint that says what to do."""

    def __init__(self, status: int, code: str, message: str, *, hint: str):
        super().__init__(message)
        self.status, self.code, self.message, self.hint = status, code, message, hint

    def response(self, headers: dict[str, str] | None = None) -> JSONResponse:
        body = {"code": self.code, "message": self.message, "hint": self.hint}
        return JSONResponse({"error": body, "request_id": ""}, self.status, headers)
