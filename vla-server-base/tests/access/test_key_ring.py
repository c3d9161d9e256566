"""Keys as they are stored and found: in a file that changes, in a variable, expired, damaged, a thousand of them."""

import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from vla_server_base.access.key_file import read_keys, write_keys
from vla_server_base.access.key_ring import KeyRing
from vla_server_base.access.keys import Key, digest_of, new_secret
from vla_server_base.access.listed_keys import listed_keys
from vla_server_base.config import ConfigError, ServerConfig

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def stored(path: Path, *names: str, **fields) -> list[str]:
    secrets = [new_secret() for _ in names]
    write_keys(
        path, [Key(name=name, digest=digest_of(secret), **fields) for name, secret in zip(names, secrets, strict=True)]
    )
    return secrets


def test_the_file_has_names_and_hashes_for_its_owner_alone(tmp_path):
    path = tmp_path / "folder" / "keys.json"
    (secret,) = stored(path, "arm-1", rate=20.0, priority="batch", expires=NOW)
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret not in path.read_text()
    (key,) = read_keys(path)
    assert (key.name, key.rate, key.priority, key.expires) == ("arm-1", 20.0, "batch", NOW)
    assert os.listdir(path.parent) == ["keys.json"], "nothing else is left"


def test_each_key_of_a_thousand_is_found_and_no_other(tmp_path):
    path = tmp_path / "keys.json"
    secrets = stored(path, *(f"arm-{number}" for number in range(1000)))
    ring = KeyRing(path)
    assert [ring.find(secret).name for secret in secrets] == [f"arm-{number}" for number in range(1000)]
    assert ring.find(new_secret()) is None
    assert ring.find("") is None


def test_a_changed_file_counts_at_the_next_look_up(tmp_path):
    path = tmp_path / "keys.json"
    (first,) = stored(path, "a")
    ring = KeyRing(path)
    (second,) = stored(path, "b")
    assert (ring.find(first), ring.find(second).name) == (None, "b")
    write_keys(path, [])
    assert ring.find(second) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"keys": [{"name": "a"}]}', '{"keys": [{"name": "a b"}]}', None])
def test_a_damaged_file_refuses_the_start_and_changes_nothing_later(tmp_path, log_lines, content):
    path = tmp_path / "keys.json"
    (secret,) = stored(path, "a")
    ring = KeyRing(path)
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert ring.find(secret).name == "a"
    assert ring.find(secret).name == "a"
    assert len(log_lines("the keys that were read last stay valid")) == 1
    with pytest.raises(ConfigError):
        KeyRing(path)


@pytest.mark.parametrize(("mode", "says"), [(0o644, "everybody may read"), (0o620, "others may add"), (0o600, "")])
def test_a_file_that_others_reach_is_warned_about(tmp_path, log_lines, mode, says):
    path = tmp_path / "keys.json"
    stored(path, "a")
    path.chmod(mode)
    KeyRing(path)
    assert len(log_lines("chmod 600")) == bool(says)
    assert all(says in line for line in log_lines("chmod 600"))


def test_a_key_expires(tmp_path):
    path = tmp_path / "keys.json"
    stored(path, "a", expires=NOW)
    (key,) = read_keys(path)
    assert not KeyRing(path, now=lambda: NOW - timedelta(seconds=1)).is_expired(key)
    assert KeyRing(path, now=lambda: NOW).is_expired(key)


def test_a_variable_lists_keys_and_hashes():
    secret = new_secret()
    text = f"arm-1={secret} night:batch:20=sha256:{digest_of('x' * 32).hex()}, ann:human={'y' * 32}"
    ring = KeyRing(None, listed_keys(text))
    found = [ring.find(each) for each in (secret, "x" * 32, "y" * 32)]
    assert [(key.name, key.priority, key.rate) for key in found] == [
        ("arm-1", "robot", None),
        ("night", "batch", 20.0),
        ("ann", "human", None),
    ]


@pytest.mark.parametrize(
    "text",
    ["{0}", "arm={0}=x:boss", "arm:boss={0}", "arm:robot:fast={0}", "arm:robot:0={0}", "arm=short", "a b={0}"],
)
def test_what_is_no_list_of_keys_is_refused_without_a_key_in_the_message(text):
    secret = "s" * 43
    if text == "arm={0}=x:boss":
        text = "=" + secret
    with pytest.raises(ConfigError) as refused:
        listed_keys(text.format(secret))
    assert secret not in refused.value.as_sentence()


def test_no_settings_repr_has_the_keys():
    assert "s" * 43 not in repr(ServerConfig(api_keys="arm=" + "s" * 43))


def test_a_file_with_an_unknown_field_is_refused(tmp_path):
    path = tmp_path / "keys.json"
    stored(path, "a")
    content = json.loads(path.read_text())
    content["keys"][0]["admin"] = True
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="admin"):
        read_keys(path)
