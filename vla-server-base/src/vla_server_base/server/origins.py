"""Which web pages may send requests to this server, and under which host names it answers.

A web page can send requests to any address that its browser reaches, this server's included. With DNS rebinding (its
domain name suddenly resolves to 127.0.0.1) it can also read the replies. Programs other than browsers send neither
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
# resolution of 2024-07-29 (internal); lan is what routers call their network, and is no top-level domain.
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
                    f"VLA_ALLOWED_HOSTS: '{name}' is not the name of a host",
                    hint="names without scheme and port, such as robots.lab.example, or .lab.example for all below it",
                )
        self._any_host = "*" in listed
        self._names = {*listed, config.host.lower(), socket.gethostname().lower(), "localhost"}
        self._endings = (*_LOCAL_ENDINGS, *(name for name in listed if name.startswith(".")))
        self.allowed = config.allowed_origins.replace(",", " ").lower().split()
        for origin in self.allowed:
            if _origin(origin) is None or urlsplit(origin).path:
                raise ConfigError(
                    f"VLA_ALLOWED_ORIGINS: '{origin}' is not an origin", hint="such as https://robots.lab.example:8443"
                )

    def check(self, method: str, headers: Headers) -> None:
        """Refuse a request that comes from a web page of another origin, or for another host.

        Raises:
            Forbidden: with the setting that would allow it.
        """
        address = self._address_of_server(headers.getlist("host"))
        origins = headers.getlist("origin")
        if [origin.lower() for origin in origins] in ([each] for each in self.allowed):
            return
        if origins and not (address and len(origins) == 1 and _is_origin_of(origins[0], address)):
            raise Forbidden(
                f"a web page of another origin, '{origins[0][:80]}', sends this request",
                hint="VLA_ALLOWED_ORIGINS lists the origins whose pages may ask this server",
            )
        site = headers.get("sec-fetch-site", "none")
        # To follow a link here is as good as typing the address; a frame within another page is not.
        is_visit = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if site not in ("none", "same-origin") and not (method in _SAFE and is_visit):
            raise Forbidden(
                f"a web page of another origin sends this request (Sec-Fetch-Site: {site[:80]})",
                hint="VLA_ALLOWED_ORIGINS lists the origins whose pages may ask this server",
            )

    def _address_of_server(self, hosts: list[str]) -> _Address | None:
        """Return this server's address as the client names it; None if it sends no `Host` (HTTP/1.0)."""
        if not hosts:
            return None
        address = _address(hosts[0]) if len(hosts) == 1 else None
        if address is None or not (self._any_host or self._is_known(address.host)):
            raise Forbidden(
                f"this server is not known as '{', '.join(hosts)[:80]}'",
                hint="VLA_ALLOWED_HOSTS lists the names that it is reached by; its address and localhost always work",
            )
        return address

    def _is_known(self, host: str) -> bool:
        name = host.rstrip(".")
        if _is_ip(host) or name in self._names or name.endswith(self._endings):
            return True
        # No stranger's: the public DNS has no names of one part.
        return bool(name) and "." not in name


def _is_origin_of(origin: str, address: _Address) -> bool:
    parts = _origin(origin.lower())
    if parts is None:
        return False
    scheme, origin_address = parts
    port = None if address.port == _DEFAULT_PORTS[scheme] else address.port
    return origin_address == _Address(address.host, port)


def _origin(origin: str) -> tuple[str, _Address] | None:
    scheme, separator, rest = origin.partition("://")
    address = _address(rest) if separator and scheme in _DEFAULT_PORTS else None
    if address is None:
        return None
    return scheme, _Address(address.host, None if address.port == _DEFAULT_PORTS[scheme] else address.port)


def _address(text: str) -> _Address | None:
    """Read `name`, `name:port` or `[address]:port`; None if the text has another form."""
    matched = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^\s/?#@:\\\[\]]+)(?::(\d{1,5}))?", text.strip().lower())
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
