"""For all tests of the base."""

import pytest

pytest.register_assert_rewrite("vla_server_base.testing.contract")
