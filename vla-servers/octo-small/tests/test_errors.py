"""Every error of Octo says what is wrong and what to do."""

import ast
from pathlib import Path

import pytest

import octo_service
from octo_service import errors
from octo_service.errors import InputError, OctoError
from vla_server_base.errors import VLAError

SOURCE = Path(octo_service.__file__).parent
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, OctoError)}


def test_an_error_shows_its_message_and_its_hint():
    error = InputError("timestep_pad_mask is missing", hint="pass it, (batch, window)")
    assert isinstance(error, VLAError)
    assert str(error) == error.as_sentence() == "timestep_pad_mask is missing; pass it, (batch, window)"
    assert error.message == "timestep_pad_mask is missing"


def test_an_error_without_a_hint_cannot_be_made():
    with pytest.raises(TypeError, match="hint"):
        OctoError("something is wrong")  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_every_error_that_is_raised_has_a_hint(path: Path):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    made = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in KINDS]
    without = [call.lineno for call in made if not any(keyword.arg == "hint" for keyword in call.keywords)]
    assert without == []
