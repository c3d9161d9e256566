"""The hint that says how to install an extra."""

from vla_server_base.extras import how_to_install


def test_the_hint_names_the_extra_in_both_commands():
    hint = how_to_install("zmq")
    assert "make install EXTRAS=zmq" in hint
    assert "uv sync --extra zmq" in hint


def test_the_hint_names_no_policy():
    assert "octo" not in how_to_install("zmq").lower()
