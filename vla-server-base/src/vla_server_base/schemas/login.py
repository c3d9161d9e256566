"""What a login says."""

from vla_server_base.request_context import Priority
from vla_server_base.schemas.base import Reply


class LoginReply(Reply):
    """Whose key it is, and for how long the cookie is valid."""

    name: str
    priority: Priority
    expires_s: int
