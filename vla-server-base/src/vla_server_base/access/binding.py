"""Where a server without API keys may listen, and a port without TLS beside one that has it: on this machine alone."""

import ipaddress
import socket

from vla_server_base.config import ConfigError, ServerConfig

_LOCAL_FAMILY = getattr(socket, "AF_UNIX", None)


def check_binding(config: ServerConfig, host: str, setting: str = "VLA_HOST") -> None:
    """Check that a server may listen on a host: without keys only on loopback, where this machine's programs reach it.

    Raises:
        ConfigError: others could reach it, and it could not tell who they are; the hint names the ways on.
    """
    if config.keys_file or config.api_keys.strip() or config.allow_anyone or is_loopback(host):
        return
    raise ConfigError(
        f"{setting}={host} lets everybody on the network move the robot: this server has no API keys",
        hint="make one (VLA_KEYS_FILE=keys.json, then the command `keys new NAME`), listen on 127.0.0.1,"
        " or set VLA_ALLOW_ANYONE=on where a proxy of your own checks who asks",
    )


def check_socket(config: ServerConfig, listening: socket.socket) -> None:
    """Check a socket that listens already; raises what `check_binding` does."""
    if listening.family != _LOCAL_FAMILY:
        check_binding(config, listening.getsockname()[0], "the address")


def zmq_host(config: ServerConfig) -> str:
    """Return where GR00T's port listens: at its own address, or at the server's.

    Raises:
        ConfigError: see `check_binding`; or HTTP has TLS, and nobody has said that others reach this port without it.
    """
    if config.zmq_host:
        check_binding(config, config.zmq_host, "VLA_ZMQ_HOST")
        return config.zmq_host
    check_binding(config, config.host)
    if config.tls_cert and not is_loopback(config.host):
        raise ConfigError(
            f"VLA_ZMQ_PORT={config.zmq_port} on VLA_HOST={config.host} has no TLS: others could read keys and images",
            hint="set VLA_ZMQ_HOST=127.0.0.1 and have robots come through a tunnel (ssh -L), or set it to the address"
            " of a VPN such as WireGuard",
        )
    return config.host


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host; also where there is no such host, and nothing can listen."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return True
    return all(ipaddress.ip_address(str(each[4][0]).partition("%")[0]).is_loopback for each in found)
