"""The settings of a session: the policy's defaults, and what it does not have."""

from dataclasses import replace

import pytest

from vla_server_base.errors import RequestError, UnknownName
from vla_server_base.sessions.action_chunking import RecedingHorizon, TemporalEnsemble
from vla_server_base.sessions.settings import SessionSettings, checked_settings, default_settings, differences, new_plan
from vla_server_base.testing import EchoAdapter

SPEC = EchoAdapter().spec


def test_the_policys_dataset_and_format_are_the_default():
    settings = checked_settings(SPEC, SessionSettings(), {})
    assert settings.dataset == SPEC.default_dataset
    assert settings.action_format == SPEC.actions[None].formats[0]


def test_changes_are_applied_to_the_settings_before():
    settings = checked_settings(SPEC, SessionSettings(execution="ensemble"), {"ensemble_weight": 0.5})
    assert (settings.execution, settings.ensemble_weight) == ("ensemble", 0.5)


@pytest.mark.parametrize(("executes_chunks", "expected"), [(False, ("chunk", 3, 0.5)), (True, ("receding", 1, 0.0))])
def test_chunks_are_executed_as_the_policy_says_unless_the_client_does_it(executes_chunks, expected):
    spec = replace(SPEC, execution="chunk", execution_horizon=3, ensemble_weight=0.5)
    settings = default_settings(spec, reset_on_new_task=False, executes_chunks=executes_chunks)
    assert (settings.execution, settings.execution_horizon, settings.ensemble_weight) == expected
    assert not settings.reset_on_new_task
    assert settings.dataset == SPEC.default_dataset


@pytest.mark.parametrize("horizon", [0, SPEC.horizon + 1])
def test_an_execution_horizon_beyond_the_chunk_is_refused(horizon):
    with pytest.raises(RequestError, match=f"expected 1 to {SPEC.horizon}.*got {horizon}") as raised:
        checked_settings(SPEC, SessionSettings(), {"execution_horizon": horizon})
    assert f"at most {SPEC.horizon}" in raised.value.hint


@pytest.mark.parametrize("name", ["dataset", "action_format"])
def test_a_name_that_the_policy_does_not_have_is_refused_with_the_known_ones(name):
    with pytest.raises(UnknownName, match="'moon' is not known") as raised:
        checked_settings(SPEC, SessionSettings(), {name: "moon"})
    assert raised.value.hint.startswith("available: ")


def test_differences_are_in_words():
    assert differences(SessionSettings(), SessionSettings()) == []
    chunk = SessionSettings(execution="chunk", execution_horizon=2)
    assert differences(SessionSettings(), chunk) == [
        "execution 'chunk' instead of 'receding'",
        "execution_horizon 2 instead of 1",
    ]


def test_a_plan_follows_the_execution():
    assert isinstance(new_plan(SPEC, SessionSettings(execution="ensemble")), TemporalEnsemble)
    assert isinstance(new_plan(SPEC, SessionSettings(execution="chunk", execution_horizon=3)), RecedingHorizon)
