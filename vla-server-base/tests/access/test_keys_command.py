"""`keys new`, `list` and `revoke`, as a service's command line runs them."""

import dataclasses

import pytest

from vla_server_base.access.key_file import read_keys
from vla_server_base.access.keys import digest_of
from vla_server_base.commands.command_line import parse, run
from vla_server_base.commands.options import shared_commands
from vla_server_base.commands.program import PolicyProgram
from vla_server_base.config import PolicySettings
from vla_server_base.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class EchoSettings(PolicySettings):
    model: str = "echo"


PROGRAM = PolicyProgram(
    name="echo-service",
    description="Echo.",
    config=EchoSettings,
    prefix="ECHO",
    commands=shared_commands(EchoSettings, "ECHO"),
    adapter="vla_server_base.testing:EchoAdapter",
    resize="vla_server_base.testing:EchoAdapter",
    packages=(),
)


@pytest.fixture
def keys(tmp_path, monkeypatch, capsys):
    """Run `keys ...`, and return what it printed."""
    monkeypatch.setenv("VLA_KEYS_FILE", str(tmp_path / "keys.json"))

    def typed(*arguments: str) -> str:
        run(PROGRAM, parse(PROGRAM, ["keys", *arguments]))
        return capsys.readouterr().out

    return typed


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.json"


def test_a_new_key_is_printed_once_and_stored_as_a_hash(keys, path):
    secret = keys("new", "arm-1", "--class", "batch", "--rate", "20", "--expires", "90d").strip()
    (key,) = read_keys(path)
    assert (key.name, key.priority, key.rate, key.digest) == ("arm-1", "batch", 20.0, digest_of(secret))
    assert (key.expires - key.created).days == 90
    assert secret not in keys("list")


def test_the_list_has_a_row_for_each_key(keys):
    for name in ("b", "a"):
        keys("new", name)
    heading, *rows = keys("list").splitlines()
    assert heading.split() == ["name", "class", "rate", "created", "expires"]
    assert [row.split()[:3] for row in rows] == [["a", "robot", "-"], ["b", "robot", "-"]]


def test_a_revoked_key_is_gone_and_an_unknown_name_is_said(keys, path):
    keys("new", "a")
    assert keys("revoke", "a") == "revoked a\n"
    assert read_keys(path) == []
    with pytest.raises(UsageError, match="there is no key 'a'"):
        keys("revoke", "a")


def test_a_name_has_one_key_unless_it_is_replaced(keys, path):
    keys("new", "a", "--class", "human", "--rate", "5")
    with pytest.raises(UsageError, match="there is a key 'a' already"):
        keys("new", "a")
    secret = keys("new", "a", "--rotate", "1h").strip()
    old, new = read_keys(path)
    assert (old.expires - new.created).total_seconds() == 3600
    assert (new.digest, new.priority, new.rate, new.expires) == (digest_of(secret), "human", 5.0, None)


def test_a_replaced_key_may_end_at_once(keys, path):
    keys("new", "a")
    secret = keys("new", "a", "--rotate", "0s").strip()
    assert [key.digest for key in read_keys(path)] == [digest_of(secret)]


@pytest.mark.parametrize("wrong", [("a b",), ("",), ("a", "--expires", "soon"), ("a", "--rotate", "1x")])
def test_a_wrong_name_or_duration_is_said(keys, wrong):
    with pytest.raises(UsageError):
        keys("new", *wrong)


def test_without_a_file_the_way_on_is_said(keys, monkeypatch):
    monkeypatch.delenv("VLA_KEYS_FILE")
    with pytest.raises(UsageError, match="no file of API keys is named") as refused:
        keys("list")
    assert "VLA_KEYS_FILE=" in refused.value.hint
