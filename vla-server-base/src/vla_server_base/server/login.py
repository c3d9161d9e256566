"""POST /login and /logout: a cookie for the page in a browser, which cannot keep a key as safely."""

from fastapi import APIRouter, Request, Response

from vla_server_base.access.keys import current_key
from vla_server_base.access.logins import LOGIN_S
from vla_server_base.errors import NotFound, Unauthorized
from vla_server_base.schemas.base import ErrorReply
from vla_server_base.schemas.login import LoginReply
from vla_server_base.server.doorkeeper import cookie_name, login_cookie
from vla_server_base.server.service import CurrentService

router = APIRouter(responses={"default": {"model": ErrorReply, "description": "Any error"}})


@router.post("/login", summary="Get a cookie for the key in the header Authorization")
async def login(request: Request, response: Response, service: CurrentService) -> LoginReply:
    key = current_key.get()
    if key is None:
        raise NotFound("this server has no API keys: there is nothing to log in to", hint="send requests as they are")
    if "authorization" not in request.headers:
        raise Unauthorized("a login needs the key itself", hint="send the header Authorization: Bearer KEY")
    response.set_cookie(
        cookie_name(request.headers),
        service.access.logins.begin(key),
        max_age=LOGIN_S,
        httponly=True,
        samesite="strict",
        secure=_is_encrypted(request),
    )
    return LoginReply(name=key.name, priority=key.priority, expires_s=LOGIN_S)


@router.post("/logout", summary="End the login of this browser")
async def logout(request: Request, response: Response, service: CurrentService) -> LoginReply:
    key = current_key.get()
    if key is None:
        raise NotFound("this server has no API keys: there is no login to end", hint="send requests as they are")
    service.access.logins.end(login_cookie(request.headers))
    response.delete_cookie(
        cookie_name(request.headers), httponly=True, samesite="strict", secure=_is_encrypted(request)
    )
    return LoginReply(name=key.name, priority=key.priority, expires_s=0)


def _is_encrypted(request: Request) -> bool:
    """Return whether the browser uses https, here or at a proxy; the header Origin says so, and it has been checked."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
