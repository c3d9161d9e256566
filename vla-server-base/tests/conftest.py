"""For all tests of the base."""

import logging

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

pytest.register_assert_rewrite("vla_server_base.testing.contract")

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


class ByFile(LoadFileScheduling):
    """A file's tests run in one process, and so do all of the fleet's: one cluster is enough for two processors."""

    def _split_scope(self, nodeid: str) -> str:
        path = super()._split_scope(nodeid)
        return "tests/fleet" if path.startswith("tests/fleet/") else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)


@pytest.fixture
def log_lines(caplog):
    """Return the server's log lines that hold a text, with request ids, as its program writes them."""
    from vla_server_base.monitoring.logs import LINE
    from vla_server_base.request_context import RequestIdFilter

    request_ids, formatter = RequestIdFilter(), logging.Formatter(LINE)
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(request_ids)

    def lines_with(text: str) -> list[str]:
        records = [record for record in caplog.records if record.name.startswith("vla_server_base.")]
        return [line for line in map(formatter.format, records) if text in line]

    yield lines_with
    caplog.handler.removeFilter(request_ids)
