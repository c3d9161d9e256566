"""The command line: `vla-console URL [URL ...]` shows servers that run elsewhere."""

import argparse
import os
import socket
import sys
from contextlib import suppress
from typing import NoReturn
from urllib.parse import urlsplit

import uvicorn

from vla_console import __version__
from vla_console.page import is_built
from vla_console.proxy import console_app

_HOST = "127.0.0.1"


def main() -> None:
    """Show the servers until Ctrl-C; where that cannot be, say so in a sentence."""
    options = _options()
    if not is_built():
        _fail("the page is not built; run `make install` at the top of the repository, or install the package again")
    try:
        listening = socket.create_server((_HOST, options.port))
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0]
        _fail(f"cannot listen on {_HOST}:{options.port}: {reason}; choose another port with --port, 0 takes a free one")
    address = f"http://{_HOST}:{listening.getsockname()[1]}"
    print(f"vla-console: {address} shows {', '.join(options.urls)}; Ctrl-C ends it", flush=True)
    # Streams of events do not end by themselves: after a second they are cut.
    config = uvicorn.Config(
        console_app(options.urls, options.api_key),
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="vla-console", description="Show policy servers that run elsewhere, in a browser."
    )
    parser.add_argument("urls", metavar="URL", nargs="+", type=server_url, help="a server, such as http://gpu-box:8002")
    parser.add_argument(
        "--port", type=_port, default=8010, help="port on 127.0.0.1, by default 8010; 0 takes a free one"
    )
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        default=os.environ.get("VLA_API_KEY", ""),
        help="an API key of the servers, which everybody on this machine then uses; better in the variable VLA_API_KEY",
    )
    parser.add_argument("--version", action="version", version=f"vla-console {__version__}")
    return parser.parse_args()


def server_url(given: str) -> str:
    """Return the address of a server, without a slash at its end; without a scheme it is http.

    Raises:
        argparse.ArgumentTypeError: it is not an address.
    """
    url = given if "://" in given else f"http://{given}"
    try:
        parts = urlsplit(url)
        is_server = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        if is_server and not (parts.query or parts.fragment):
            return url.rstrip("/")
    except ValueError:  # such as a port that is not a number
        pass
    raise argparse.ArgumentTypeError(f"'{given}' is not the address of a server, such as http://gpu-box:8002")


def _port(given: str) -> int:
    if not (given.isdecimal() and int(given) <= 65535):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got '{given}'")
    return int(given)


def _fail(sentence: str) -> NoReturn:
    print(f"vla-console: {sentence}", file=sys.stderr)
    sys.exit(1)
