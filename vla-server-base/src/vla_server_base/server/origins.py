"""Which web pages may send requests to this server, and under which names, judged by the headers of browsers.

A page that somebody has open can send requests to any address that its machine reaches, this server's too, and by DNS
rebinding (its own host name resolves to 127.0.0.1) read the replies. Other programs than browsers send neither
`Origin` nor `Sec-Fetch-Site`; for them only `Host` is checked.
"""

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.errors import Forbidden

# Names that the public DNS gives to nobody: RFC 6761 (localhost), RFC 6762 (local), RFC 8375 (home.arpa), ICANN's
# resolution of 2024-07-29 (internal); lan is what routers call their network, not a top-level domain.
_LOCAL_ENDINGS = (".localhost", ".local", ".lan", ".internal", ".home.arpa")
_NAME = re.compile(r"\.?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?")
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_SAFE = ("GET", "HEAD")


@dataclass(frozen=True)
class _Address:
    """A name or an address, and a port, None for the scheme's own."""

    host: str
    port: int | None


class Origins:
    """The names that this server goes by, and the origins whose pages may ask it.

    Raises:
        ConfigError: a setting that names neither.
    """

    def __init__(self, config: ServerConfig):
        listed = config.allowed_hosts.replace(",", " ").lower().split()
        for name in listed:
            if name != "*" and not _NAME.fullmatch(name):
                raise ConfigError(
                    f"VLA_ALLOWED_HOSTS: '{name}' is not a host name",
                    hint="give names without scheme and port: robots.lab.example, or .lab.example with subdomains",
                )
        self._any_host = "*" in listed
        self._names = {*listed, config.host.lower(), socket.gethostname().lower(), "localhost"}
        self._endings = (*_LOCAL_ENDINGS, *(name for name in listed if name.startswith(".")))
        self.allowed = config.allowed_origins.replace(",", " ").lower().split()
        for origin in self.allowed:
            if _origin(origin) is None or urlsplit(origin).path:
                raise ConfigError(
                    f"VLA_ALLOWED_ORIGINS: '{origin}' is not an origin",
                    hint="give scheme, host and port, such as https://robots.lab.example:8443",
                )

    def check(self, method: str, headers: Headers) -> None:
        """Let a request pass, unless a web page sends it that has no business here.

        Raises:
            Forbidden: it is such a page's, or comes under a name that is not known to be this server's.
        """
        host = self._host(headers.getlist("host"))
        origins = headers.getlist("origin")
        if [origin.lower() for origin in origins] in ([each] for each in self.allowed):
            return
        if origins and not (host and len(origins) == 1 and _same(origins[0], host)):
            raise Forbidden(
                f"a web page of another origin, '{origins[0][:80]}', sends this request",
                hint="add the origin to VLA_ALLOWED_ORIGINS",
            )
        site = headers.get("sec-fetch-site", "none")
        # To follow a link here is as good as typing the address; a frame within another page is not.
        is_visit = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if site not in ("none", "same-origin") and not (method in _SAFE and is_visit):
            raise Forbidden(
                f"a web page of another origin sends this request (Sec-Fetch-Site: {site[:80]})",
                hint="add the origin to VLA_ALLOWED_ORIGINS",
            )

    def _host(self, hosts: list[str]) -> _Address | None:
        """Return the host that the client named; None if it named none (HTTP/1.0)."""
        if not hosts:
            return None
        host = _address(hosts[0]) if len(hosts) == 1 else None
        if host is None or not (self._any_host or self._is_known(host.host)):
            raise Forbidden(
                f"this server is not known as '{', '.join(hosts)[:80]}'",
                hint="add the name to VLA_ALLOWED_HOSTS, or use the server's address",
            )
        return host

    def _is_known(self, host: str) -> bool:
        name = host.rstrip(".")
        if _is_ip(host) or name in self._names or name.endswith(self._endings):
            return True
        # Safe: the public DNS has no names of one part.
        return bool(name) and "." not in name


def _same(origin: str, own: _Address) -> bool:
    found = _origin(origin.lower())
    if found is None:
        return False
    scheme, address = found
    own_port = None if own.port == _DEFAULT_PORTS[scheme] else own.port
    return address == _Address(own.host, own_port)


def _origin(origin: str) -> tuple[str, _Address] | None:
    scheme, found, rest = origin.partition("://")
    address = _address(rest) if found and scheme in _DEFAULT_PORTS else None
    if address is None:
        return None
    return scheme, _Address(address.host, None if address.port == _DEFAULT_PORTS[scheme] else address.port)


def _address(said: str) -> _Address | None:
    """Read `name`, `name:port` or `[address]:port`; None if it has another form."""
    matched = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^\s/?#@:\\\[\]]+)(?::(\d{1,5}))?", said.strip().lower())
    if matched is None:
        return None
    host, port = matched[1].strip("[]"), matched[2]
    if not (_is_ip(host) or _NAME.fullmatch(host)):
        return None
    return _Address(host, int(port) if port else None)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
