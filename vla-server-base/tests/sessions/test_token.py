"""Session tokens: signed state that only the same model's server reads."""

import base64
from dataclasses import replace

import numpy as np
import pytest

from vla_server_base.contract import Observation, Task
from vla_server_base.errors import InvalidToken
from vla_server_base.sessions.progress import new_progress
from vla_server_base.sessions.requests import StepRequest
from vla_server_base.sessions.settings import SessionSettings, checked_settings
from vla_server_base.sessions.token import TokenSeal
from vla_server_base.testing import EchoAdapter

SPEC = EchoAdapter().spec
SETTINGS = checked_settings(SPEC, SessionSettings(execution="chunk", execution_horizon=3), {})


def seal(folder, model: str = "echo", max_age_s: float = 60.0) -> TokenSeal:
    return TokenSeal(folder, model, max_age_s)


@pytest.fixture
def progress():
    progress = new_progress(SPEC, SETTINGS, seed=7)
    goal = {"primary": np.full((2, 2, 3), 9, np.uint8)}
    image, proprio = np.arange(48, dtype=np.uint8).reshape(4, 4, 3), np.array([0.5, -1.0, 2.0])
    request = StepRequest(
        observation=Observation(images={"primary": image}, proprio=proprio),
        task=Task(instruction="lift", goal_images=goal),
        sequence=5,
        sources={"primary": ("exterior", "left")},
    )
    progress.advance(request, progress.visible(request), 1)
    progress.plan.put(np.arange(28.0).reshape(4, 7))
    progress.plan.skip(1)
    return progress


def token(progress, seal: TokenSeal) -> str:
    return seal.sealed(seal.content("arm", SETTINGS, progress))


def test_a_token_brings_back_all_that_the_session_has_come_to(tmp_path, progress):
    resumed = seal(tmp_path).read(token(progress, seal(tmp_path)), SPEC)
    assert (resumed.id, resumed.settings, resumed.is_too_old) == ("arm", SETTINGS, False)
    back = resumed.progress
    assert (back.seed, back.step, back.sequence, back.episode) == (7, 1, 5, 0)
    assert back.sources == {"primary": ("exterior", "left")}
    (seen,), (seen_before,) = back.history.seen, progress.history.seen
    np.testing.assert_array_equal(seen.images["primary"], seen_before.images["primary"])
    np.testing.assert_array_equal(seen.proprio, seen_before.proprio)
    np.testing.assert_array_equal(back.plan.remaining(), progress.plan.remaining())
    assert back.task.instruction == "lift"
    np.testing.assert_array_equal(back.task.goal_images["primary"], progress.task.goal_images["primary"])


def test_a_token_of_another_models_server_is_refused(tmp_path, progress):
    with pytest.raises(InvalidToken, match="not signed by this server"):
        seal(tmp_path, "other").read(token(progress, seal(tmp_path)), SPEC)


@pytest.mark.parametrize("changes", [{"horizon": 3}, {"action_names": SPEC.action_names[:6]}])
def test_a_token_with_chunks_of_another_shape_than_the_policys_is_refused(tmp_path, progress, changes):
    with pytest.raises(InvalidToken, match="chunks of another policy"):
        seal(tmp_path).read(token(progress, seal(tmp_path)), replace(SPEC, **changes))


@pytest.mark.parametrize("place", [0, 31, 32, -1])
def test_a_changed_byte_is_noticed(tmp_path, progress, place):
    changed = bytearray(base64.b64decode(token(progress, seal(tmp_path))))
    changed[place] ^= 1
    with pytest.raises(InvalidToken, match="damaged"):
        seal(tmp_path).read(base64.b64encode(changed).decode(), SPEC)


def test_what_is_not_base64_is_refused_with_a_hint(tmp_path):
    with pytest.raises(InvalidToken, match="not base64") as raised:
        seal(tmp_path).read("*", SPEC)
    assert "session.token" in raised.value.hint


def test_an_old_token_says_so(tmp_path, progress):
    assert seal(tmp_path).read(token(progress, seal(tmp_path, max_age_s=-1.0)), SPEC).is_too_old


def test_a_folder_that_cannot_be_written_gives_a_key_for_this_server_alone(tmp_path, progress, caplog):
    (tmp_path / "file").touch()
    one, other = seal(tmp_path / "file"), seal(tmp_path / "file")
    assert "session tokens become invalid when this server ends" in caplog.text
    assert one.read(token(progress, one), SPEC).id == "arm"
    with pytest.raises(InvalidToken):
        other.read(token(progress, one), SPEC)
