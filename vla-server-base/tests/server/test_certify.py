"""`certify`: a file that says what a policy answers, and what of it holds on a second machine."""

import json

import msgspec
import pytest
from recorded_sessions import ECHO, EchoConfig

from vla_server_base.commands import certify
from vla_server_base.commands.certificate import RecordedOutputs, outputs_of
from vla_server_base.commands.options.certify import Certify
from vla_server_base.config import ServerConfig
from vla_server_base.errors import UsageError


def certified(tmp_path, **options) -> int:
    """The exit code of `certify`."""
    given = {"num": 4, "predictions": 5, "server": ServerConfig(cache_dir=tmp_path), "config": EchoConfig(), **options}
    try:
        certify.run(Certify(**given), ECHO)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def path(tmp_path):
    """A certificate."""
    path = tmp_path / "certificate.json"
    assert certified(tmp_path, out=path) == 0
    return path


def change(path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_certificate_holds_where_it_was_made(path, tmp_path, capsys):
    assert certified(tmp_path, verify=path) == 0
    printed = capsys.readouterr().out
    assert "ok   outputs      4 chunks are the same bit for bit" in printed
    assert "ok   batch        of 4: the same bits as alone" in printed
    assert "FAIL" not in printed


def test_it_says_what_was_measured_and_on_what(path):
    content = json.loads(path.read_text())
    assert content["model"] == "echo"
    assert content["batching"]["is_bit_equal"]
    assert content["repeats_bit_equal"]
    assert len(content["hashes"]["code"]) == 64
    assert content["latency_ms"]["num"] == 5
    assert content["machine"]["cores"] >= 1


def test_other_code_does_not_hold(path, tmp_path, capsys):
    change(path, hashes={**json.loads(path.read_text())["hashes"], "code": "0" * 64})
    assert certified(tmp_path, verify=path) == 1
    assert f"{'0' * 64} certified" in capsys.readouterr().out


@pytest.mark.parametrize(("offset", "code"), [(0.0, 0), (1e-4, 0), (0.5, 1)])
def test_outputs_hold_within_the_tolerance(path, tmp_path, offset, code):
    outputs = json.loads(path.read_text())["outputs"]
    moved = outputs_of(msgspec.convert(outputs, RecordedOutputs).array + offset)
    change(path, outputs=msgspec.to_builtins(moved))
    assert certified(tmp_path, verify=path) == code


def test_other_versions_and_machines_are_said_and_hold(path, tmp_path, capsys):
    content = json.loads(path.read_text())
    change(
        path, versions={**content["versions"], "numpy": "1.0"}, machine={**content["machine"], "processor": "Abacus"}
    )
    assert certified(tmp_path, verify=path) == 0
    printed = capsys.readouterr().out
    assert "version      numpy 1.0 there" in printed
    assert "processor: Abacus there" in printed


@pytest.mark.parametrize("content", ["", "[]", '{"form": 9}', '{"form": 1}'])
def test_a_file_that_is_no_certificate_is_refused(tmp_path, content):
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(UsageError, match="not a certificate"):
        certified(tmp_path, verify=tmp_path / "other.json")


def test_one_of_out_and_verify_is_required(tmp_path):
    with pytest.raises(UsageError, match="--out and --verify"):
        certified(tmp_path)
