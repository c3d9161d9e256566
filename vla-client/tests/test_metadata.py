"""What a server's greeting says of its policy."""

import pytest

from vla_client import Camera, ProtocolError
from vla_client.metadata import metadata_from_greeting

GREETING = {
    "model": "echo",
    "revision": None,
    "weights": "random",
    "cameras": [{"name": "primary", "height": 256, "width": 320}, {"name": "wrist", "height": 128, "width": 128}],
    "observation_keys": {"primary": ["primary", "observation/image"], "instruction": ["prompt"]},
    "window": 2,
    "action_horizon": 4,
    "action_dim": 1,
    "action_names": ["x"],
    "action_units": ["m"],
    "datasets": ["bridge"],
    "default_dataset": "bridge",
}


def test_a_greeting_becomes_metadata():
    metadata = metadata_from_greeting(GREETING)
    assert metadata.cameras[0] == Camera(name="primary", height=256, width=320)
    assert metadata.camera_names == ("primary", "wrist")
    assert metadata.observation_keys["primary"] == ("primary", "observation/image")
    assert metadata.revision is None


def test_metadata_do_not_change():
    with pytest.raises(AttributeError):
        metadata_from_greeting(GREETING).window = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_fields_of_a_newer_server_are_ignored():
    assert metadata_from_greeting({**GREETING, "colour": "blue"}) == metadata_from_greeting(GREETING)


def test_what_a_policy_requires_is_known_where_the_server_says_it():
    older = metadata_from_greeting(GREETING)
    assert (older.requires_proprio, older.takes_instruction, older.control_hz) == (False, True, None)
    said = {"proprio_dim": 2, "proprio_names": ["x", "y"], "requires_proprio": True, "control_hz": 50}
    camera = {"name": "top", "height": 4, "width": 4, "required": True}
    newer = metadata_from_greeting({**GREETING, **said, "cameras": [camera]})
    assert (newer.proprio_names, newer.control_hz, newer.cameras[0].required) == (("x", "y"), 50.0, True)
    assert not older.cameras[0].required


@pytest.mark.parametrize("field", sorted(GREETING))
def test_a_greeting_without_a_field_is_refused_by_its_name(field):
    incomplete = {name: value for name, value in GREETING.items() if name != field}
    with pytest.raises(ProtocolError, match=f"`{field}`") as raised:
        metadata_from_greeting(incomplete)
    assert "check that the address" in raised.value.hint


@pytest.mark.parametrize("field", sorted(GREETING))
def test_a_field_of_another_type_is_refused_by_its_name(field):
    with pytest.raises(ProtocolError, match=rf"\$\.{field}"):
        metadata_from_greeting({**GREETING, field: 1.5})
