"""A scene that cost two workers is refused for a while, its client's alone."""

import pytest

from vla_server_base.errors import SceneCrashed, SceneTimeout
from vla_server_base.scenes import pool
from vla_server_base.scenes.pool import Verdicts

CRASHED = SceneCrashed("it crashed", hint="check the scene, which may be malformed")


def test_one_worker_may_be_lost_and_two_may_not():
    seen = Verdicts()
    seen.note("robot", "key", CRASHED, num_workers=1)
    seen.check("robot", "key")
    seen.note("robot", "key", SceneTimeout("it took too long", hint="make it smaller"), num_workers=1)
    with pytest.raises(SceneTimeout, match="it took too long") as caught:
        seen.check("robot", "key")
    assert caught.value.hint.startswith("make it smaller; it has cost 2 workers and is not tried again for ")


def test_a_verdict_holds_for_one_client_and_one_scene():
    seen = Verdicts()
    seen.note("robot", "key", CRASHED, num_workers=2)
    seen.check("another", "key")
    seen.check("robot", "another key")


def test_a_verdict_is_forgotten_after_its_time(monkeypatch):
    monkeypatch.setattr(pool, "EXPIRY_S", 0.0)
    seen = Verdicts()
    seen.note("robot", "key", CRASHED, num_workers=2)
    seen.check("robot", "key")


def test_the_oldest_verdicts_make_room(monkeypatch):
    monkeypatch.setattr(pool, "MAX_VERDICTS", 2)
    seen = Verdicts()
    for key in "abc":
        seen.note("robot", key, CRASHED, num_workers=2)
    seen.check("robot", "a")
    for key in "bc":
        with pytest.raises(SceneCrashed):
            seen.check("robot", key)
