"""`keys`: make, list and revoke the API keys of a server, which need not run."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from vla_server_base.access.key_file import only_writer, read_keys, write_keys
from vla_server_base.access.keys import Key, checked_name, digest_of, duration, new_secret, utc_now
from vla_server_base.commands.options.keys import KeysCommand, ListKeys, NewKey, RevokeKey
from vla_server_base.commands.program import PolicyProgram
from vla_server_base.config import ServerConfig
from vla_server_base.errors import UsageError


def run(options: KeysCommand, program: PolicyProgram[Any]) -> None:
    """Do what was typed after `keys`."""
    path = _file(options.action.server, program)
    if isinstance(options.action, NewKey):
        _make(options.action, path)
    elif isinstance(options.action, RevokeKey):
        _revoke(options.action, path)
    else:
        assert isinstance(options.action, ListKeys), "these are all"
        _list(path)


def _make(options: NewKey, path: Path) -> None:
    name, now, secret = checked_name(options.name), utc_now(), new_secret()
    key = Key(
        name=name,
        digest=digest_of(secret),
        priority=options.priority or "robot",
        rate=options.rate,
        created=now,
        expires=None if options.expires is None else now + duration(options.expires),
    )
    ends = None if options.rotate is None else now + duration(options.rotate)
    with only_writer(path):
        others, replaced = [], []
        for each in _stored(path):
            (replaced if each.name == name else others).append(each)
        if any(not each.is_expired(now) for each in replaced) and ends is None:
            raise UsageError(
                f"there is a key '{name}' already",
                hint="choose another name, or replace it: --rotate 1h lets the old one work for an hour yet",
            )
        if replaced:
            last = replaced[-1]
            key = dataclasses.replace(key, priority=options.priority or last.priority, rate=options.rate or last.rate)
        replaced = [_ending(each, ends or now) for each in replaced]
        write_keys(path, [*others, *(each for each in replaced if not each.is_expired(now)), key])
    print(secret)


def _revoke(options: RevokeKey, path: Path) -> None:
    with only_writer(path):
        keys = _stored(path)
        left = [each for each in keys if each.name != options.name]
        if len(left) == len(keys):
            known = ", ".join(sorted({each.name for each in keys})) or "none"
            raise UsageError(f"there is no key '{options.name[:80]}' in {path}", hint=f"there are: {known}")
        write_keys(path, left)
    print(f"revoked {options.name}")


def _list(path: Path) -> None:
    rows = [("name", "class", "rate", "created", "expires")]
    now = utc_now()
    for key in sorted(_stored(path), key=lambda each: each.name):
        ended = " (expired)" if key.is_expired(now) else ""
        rate = "-" if key.rate is None else f"{key.rate:g}"
        rows.append((key.name, key.priority, rate, _shown(key.created), _shown(key.expires) + ended))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _file(server: ServerConfig, program: PolicyProgram[Any]) -> Path:
    if not server.keys_file:
        raise UsageError(
            "no file of API keys is named",
            hint=f"name it for the server too, such as VLA_KEYS_FILE=~/vla-keys.json {program.typed}",
        )
    return Path(server.keys_file).expanduser()


def _stored(path: Path) -> Sequence[Key]:
    return read_keys(path) if path.exists() else ()


def _ending(key: Key, ends: datetime) -> Key:
    """Return a key that ends then, if not before."""
    return dataclasses.replace(key, expires=ends if key.expires is None else min(key.expires, ends))


def _shown(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"
