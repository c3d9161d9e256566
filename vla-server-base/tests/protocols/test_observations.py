"""What clients call their cameras is understood; what is missing or odd is named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.errors import ImageError, InstructionError, ProtocolError, RequestError
from vla_server_base.protocols.observations import KNOWN_KEYS, observation_keys

RED = np.full((4, 6, 3), (255, 0, 0), np.uint8)
BLUE = np.full((2, 2, 3), (0, 0, 255), np.uint8)


@pytest.mark.parametrize(
    ("primary", "wrist", "instruction"),
    [
        ("observation/image", "observation/wrist_image", "prompt"),
        ("observation/exterior_image_1_left", "observation/wrist_image_left", "prompt"),
        ("image_primary", "image_wrist", "text"),
        ("full_image", "left_wrist_image", "instruction"),
        ("observation.images.primary", "observation.images.wrist", "task"),
    ],
)
def test_the_names_that_clients_send_are_known(reader, primary, wrist, instruction):
    turn = reader.turn({primary: RED, wrist: BLUE, instruction: "lift it", "something": "else"})
    np.testing.assert_array_equal(turn.observation.images["primary"], RED)
    np.testing.assert_array_equal(turn.observation.images["wrist"], BLUE)
    assert turn.task.instruction == "lift it"


def test_a_lab_s_own_names_are_taken_first(reader):
    keys = observation_keys(ServerConfig(observation_keys="primary=cam_high instruction=what"))
    own = replace(reader, keys=keys)
    turn = own.turn({"cam_high": RED, "image": BLUE, "what": "lift it"})
    np.testing.assert_array_equal(turn.observation.images["primary"], RED)
    assert keys["primary"][1:] == KNOWN_KEYS["primary"]


@pytest.mark.parametrize("entry", ["primary", "top=cam", "primary="])
def test_names_that_cannot_be_are_refused(entry):
    with pytest.raises(ConfigError, match="VLA_OBSERVATION_KEYS"):
        observation_keys(ServerConfig(observation_keys=entry))


def test_a_batch_and_a_window_of_one_are_one_picture(reader):
    turn = reader.turn({"image": RED[None, None], "instruction": ["lift it"]})
    assert turn.observation.images["primary"].shape == (4, 6, 3)
    assert turn.task.instruction == "lift it"


def test_a_missing_camera_is_named_with_what_there_is_and_what_is_taken(reader):
    said = "no picture for the camera 'primary'; the message has: cam_front, prompt"
    with pytest.raises(ProtocolError, match=said) as raised:
        reader.turn({"cam_front": RED, "prompt": "lift it"})
    assert "observation/image" in raised.value.hint
    assert "VLA_OBSERVATION_KEYS" in raised.value.hint


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (RED.astype(np.float32), r"float32 and shape \[4, 6, 3\]"),
        (RED.transpose(2, 0, 1), r"uint8 and shape \[3, 4, 6\]"),
        (RED[..., 0], r"shape \[4, 6\]"),
        (np.stack([RED, RED]), r"shape \[2, 4, 6, 3\]"),
        (RED[:0], r"shape \[0, 6, 3\]"),
        (RED.tolist(), "is list, no array"),
        (np.zeros((200, 200, 3), np.uint8), "too many pixels"),
    ],
)
def test_what_is_no_picture_is_refused(reader, picture, said):
    with pytest.raises(ImageError, match=said):
        reader.turn({"image": picture, "prompt": "lift it"})


@pytest.mark.parametrize("instruction", [None, "", " ", 3, ["a", "b"], [3]])
def test_an_instruction_is_asked_for(reader, instruction):
    with pytest.raises(InstructionError, match="there is no instruction"):
        reader.turn({"image": RED, "prompt": instruction})
    with pytest.raises(InstructionError, match="has 2000 characters"):
        reader.turn({"image": RED, "prompt": "a" * 2000})


def test_proprio_is_checked_where_the_policy_takes_it_and_left_where_not(reader):
    message = {"image": RED, "prompt": "lift it", "observation/state": np.array([1, 2, 3], np.float32)}
    np.testing.assert_array_equal(reader.turn(message).observation.proprio, [1.0, 2.0, 3.0])
    without = replace(reader, spec=replace(reader.spec, proprio_dim=None))
    assert without.turn(message).observation.proprio is None
    for wrong in ([1, 2, np.nan], "abc", [[1], [2, 3]]):
        with pytest.raises(RequestError, match="observation/state: it holds what is no finite number"):
            reader.turn({**message, "observation/state": wrong})
    with pytest.raises(RequestError, match="proprio: 2 numbers are given, this policy takes 3"):
        reader.turn({**message, "observation/state": [1, 2]})


def test_a_message_says_which_session_and_how(reader):
    message = {
        "image": RED,
        "prompt": "lift it",
        "session_id": "arm-1",
        "seed": 7,
        "sequence": 3,
        "obs_time": 1,
        "deadline_ms": 50.5,
        "reset": True,
        "execution": "chunk",
        "execution_horizon": 2,
        "dataset": "echo",
    }
    turn = reader.turn(message)
    assert (turn.session_id, turn.seed, turn.sequence, turn.obs_time) == ("arm-1", 7, 3, 1.0)
    assert (turn.deadline_ms, turn.reset, turn.token) == (50.5, True, None)
    assert turn.settings == {"execution": "chunk", "execution_horizon": 2, "dataset": "echo"}
    assert reader.turn({"image": RED, "prompt": "lift it", "session_token": "c2VjcmV0"}).token == "c2VjcmV0"


@pytest.mark.parametrize(
    ("field", "error"),
    [
        ({"session_id": 3}, "session_id: Input should be a valid string"),
        ({"session_token": b"secret"}, "session_token: Input should be a valid string"),
        ({"session_id": "a", "session_token": "b"}, "give one"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"seed": True}, "seed: Input should be a valid integer"),
        ({"sequence": 2**31}, "sequence: Input should be less than 2147483648"),
        ({"deadline_ms": 0}, "deadline_ms: Input should be greater than 0"),
        ({"obs_time": float("inf")}, "obs_time: Input should be a finite number"),
        ({"reset": "yes"}, "reset: Input should be a valid boolean"),
        ({"execution": "slowly"}, "execution: Input should be 'receding', 'chunk' or 'ensemble'"),
        ({"execution_horizon": 2}, "can only be given together with execution chunk"),
    ],
)
def test_what_a_session_cannot_be_is_refused(reader, field, error):
    with pytest.raises(RequestError, match=error):
        reader.turn({"image": RED, "prompt": "lift it", **field})


def test_every_known_key_is_documented():
    page = (Path(__file__).parents[3] / "docs" / "clients.md").read_text()
    assert [key for keys in KNOWN_KEYS.values() for key in keys if f"`{key}`" not in page] == []
