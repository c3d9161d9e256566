"""The keys of `VLA_API_KEYS`: one variable with all keys, for containers."""

from collections.abc import Sequence
from typing import get_args

from vla_server_base.access.keys import NAME, Key, digest_of
from vla_server_base.config import ConfigError
from vla_server_base.request_context import Priority

_HASH = "sha256:"
_MIN_CHARS = 32
_HINT = (
    "give NAME=KEY, NAME:CLASS=KEY or NAME:CLASS:RATE=KEY, separated by spaces, with a key of at least"
    f" {_MIN_CHARS} characters or {_HASH} and its hash; such as arm-1=... night:batch:20=sha256:..."
)


def listed_keys(text: str) -> Sequence[Key]:
    """Return the keys that a text lists, such as `arm-1=vla_... night:batch:20=sha256:...`.

    Raises:
        ConfigError: it has another form; the message never has a key in it.
    """
    return [_key(number, entry) for number, entry in enumerate(text.replace(",", " ").split(), 1)]


def _key(number: int, entry: str) -> Key:
    who, _, secret = entry.partition("=")
    name, _, properties = who.partition(":")
    priority, _, rate = properties.partition(":")
    if not (secret and NAME.fullmatch(name)):
        # Its name may be a key: somebody may have given nothing but keys.
        raise ConfigError(f"VLA_API_KEYS: entry {number} is not NAME=KEY", hint=_HINT)
    if priority and priority not in get_args(Priority):
        raise ConfigError(
            f"VLA_API_KEYS: '{name}' has the class '{priority[:20]}'", hint=f"it takes {', '.join(get_args(Priority))}"
        )
    return Key(
        name=name,
        digest=_digest(name, secret),
        priority=priority or "robot",  # pyright: ignore[reportArgumentType]
        rate=_rate(name, rate),
    )


def _digest(name: str, secret: str) -> bytes:
    if not secret.startswith(_HASH):
        if len(secret) < _MIN_CHARS:
            raise ConfigError(f"VLA_API_KEYS: the key of '{name}' is short enough to be guessed", hint=_HINT)
        return digest_of(secret)
    try:
        digest = bytes.fromhex(secret.removeprefix(_HASH))
    except ValueError:
        digest = b""
    if len(digest) != len(digest_of("")):
        raise ConfigError(f"VLA_API_KEYS: the hash of '{name}' is not 64 hexadecimal digits", hint=_HINT)
    return digest


def _rate(name: str, text: str) -> float | None:
    try:
        rate = float(text) if text else None
    except ValueError:
        rate = 0.0
    if rate is not None and not 0 < rate <= 1e6:
        raise ConfigError(f"VLA_API_KEYS: '{name}' has the rate '{text[:20]}'", hint="give requests a second, as 20")
    return rate
