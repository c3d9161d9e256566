"""Static files that travel compressed: the build writes file.gz beside each file."""

import os
import re

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope


class CompressedFiles(StaticFiles):
    """Sends file.gz in place of a file, where it exists and the browser accepts it."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Answer with the compressed file, whose ETag is another one, or with the file itself."""
        compressed = f"{os.fspath(full_path)}.gz"
        if accepts_gzip(Headers(scope=scope).get("accept-encoding", "")) and os.path.isfile(compressed):
            response = super().file_response(compressed, os.stat(compressed), scope, status_code)
            if isinstance(response, FileResponse):  # not a 304
                response.headers["Content-Encoding"] = "gzip"
        else:
            response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Vary"] = "Accept-Encoding"
        return response


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether a request with this header takes gzip.

    >>> accepts_gzip("gzip, deflate, br"), accepts_gzip("br, gzip;q=0"), accepts_gzip("")
    (True, False, False)
    """
    for coding in accept_encoding.split(","):
        name, *parameters = (part.strip().lower() for part in coding.split(";"))
        if name == "gzip":
            return not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
    return False
