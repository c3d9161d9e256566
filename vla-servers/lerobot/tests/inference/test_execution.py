"""LEROBOT_EXECUTION: how chunks are executed where a client does not say."""

import pytest

from lerobot_service.inference.policy import executed_as
from vla_server_base.errors import ModelUnavailable


def test_without_the_setting_a_checkpoint_is_executed_as_lerobot_does(adapter_of):
    spec = adapter_of("act").spec
    assert (spec.execution, spec.execution_horizon) == ("chunk", 8)
    assert executed_as(None, spec) is spec


def test_the_setting_is_what_sessions_do_by_default(adapter_of):
    spec = executed_as("aligned", adapter_of("act").spec)
    assert (spec.execution, spec.execution_horizon) == ("aligned", spec.horizon // 2)


def test_rtc_is_refused_where_a_policy_cannot_be_guided(adapter_of):
    with pytest.raises(ModelUnavailable, match="act cannot be guided"):
        executed_as("rtc", adapter_of("act").spec)
