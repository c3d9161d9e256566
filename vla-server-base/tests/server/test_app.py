"""create_vla_app: what is done before the first request."""

import sys
import warnings

import httpx
from echo_server import echo_app

from vla_server_base.server.uvicorn_server import serving


def test_the_first_request_of_a_route_mutes_no_warnings(monkeypatch):
    """The filters of warnings are those of all threads, such as the one that loads the model."""
    app, muted = echo_app(), []

    def note(muting):
        # The tests' own checks of types are made where a function is defined, within another one, too.
        if not (by := sys._getframe(1).f_globals["__name__"]).startswith("beartype."):
            muted.append((muting, by))

    with monkeypatch.context() as patch:
        patch.setattr(warnings.catch_warnings, "__enter__", note)
        patch.setattr(warnings.catch_warnings, "__exit__", lambda *_: None)
        with serving(app) as url:
            statuses = [httpx.get(f"{url}{path}").status_code for path in ("/live", "/sessions", "/tasks", "/load")]
    assert (statuses, muted) == ([200] * 4, [])
