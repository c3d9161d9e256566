"""What clients call their cameras is understood; what is missing or odd is named."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.errors import InstructionError, ProtocolError, RequestError
from vla_server_base.protocols.known_keys import IN_ORDER, KNOWN_KEYS, PLACES, bare_key, check_lab_keys, lab_keys

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
    turn = reader.step({primary: RED, wrist: BLUE, instruction: "lift it", "something": "else"})
    np.testing.assert_array_equal(turn.observation.images["primary"], RED)
    np.testing.assert_array_equal(turn.observation.images["wrist"], BLUE)
    assert turn.task.instruction == "lift it"


def test_a_lab_s_own_names_are_taken_first(reader):
    keys = lab_keys(ServerConfig(observation_keys="primary=cam_low instruction=what"))
    own = replace(reader, lab_keys=keys)
    turn = own.step({"cam_low": RED, "image": BLUE, "what": "lift it", "prompt": "drop it"})
    np.testing.assert_array_equal(turn.observation.images["primary"], RED)
    assert turn.task.instruction == "lift it"
    assert own.keys_of("primary") == ("cam_low", *KNOWN_KEYS["primary"])


@pytest.mark.parametrize("entry", ["primary", "=cam", "primary="])
def test_names_that_cannot_be_are_refused(entry):
    with pytest.raises(ConfigError, match="VLA_OBSERVATION_KEYS"):
        lab_keys(ServerConfig(observation_keys=entry))


def test_a_lab_s_own_names_are_for_any_camera_of_the_policy(reader):
    cameras = tuple(replace(reader.spec.cameras[0], name=name) for name in ("left", "top", "wrist_left"))
    config = ServerConfig(observation_keys="left=cam_0 top=observation.images.lamp wrist_left=hand")
    own = replace(reader, spec=replace(reader.spec, cameras=cameras), lab_keys=lab_keys(config))
    check_lab_keys(config, own.spec)
    seen = own.step({"cam_0": RED, "lamp": BLUE, "hand": RED, "task": "go"}).observation.images
    assert [(name, image[0, 0].tolist()) for name, image in seen.items()] == [
        ("left", [255, 0, 0]),
        ("top", [0, 0, 255]),
        ("wrist_left", [255, 0, 0]),
    ]


def of_cameras(reader, *names: str, **changes):
    cameras = tuple(replace(reader.spec.cameras[0], name=name) for name in names)
    return replace(reader, spec=replace(reader.spec, cameras=cameras), **changes)


FORMS = ("{}", "observation.images.{}", "observation/{}", "observation/image_{}", "image_{}", "video.{}")


@pytest.mark.parametrize("form", FORMS)
def test_any_camera_is_known_by_its_name_in_each_place(reader, form):
    own = of_cameras(reader, "top", "left_wrist", "cam_7")
    for camera in own.spec.camera_names:
        seen = own.step({form.format(camera): RED, "task": "go"}).observation.images
        assert list(seen) == [camera]
        assert form.format(camera) in own.keys_of(camera)


def test_the_first_camera_and_the_only_one_at_a_wrist_have_the_common_names_too(reader):
    own = of_cameras(reader, "overhead", "left_wrist")
    seen = own.step({"observation/image": RED, "observation/wrist_image": BLUE, "prompt": "go"}).observation.images
    np.testing.assert_array_equal(seen["overhead"], RED)
    np.testing.assert_array_equal(seen["left_wrist"], BLUE)
    assert set(own.keys_of("overhead")) > set(KNOWN_KEYS["primary"])


def test_a_camera_s_own_name_comes_before_the_common_ones(reader):
    own = of_cameras(reader, "overhead", "left_wrist")
    message = {"overhead": RED, "front": BLUE, "image": BLUE, "left_wrist": BLUE, "hand_camera": RED, "prompt": "go"}
    seen = own.step(message).observation.images
    np.testing.assert_array_equal(seen["overhead"], RED)
    np.testing.assert_array_equal(seen["left_wrist"], BLUE)


@pytest.mark.parametrize(
    ("cameras", "key"),
    [
        (("overhead", "front"), "front"),  # another camera's
        (("overhead", "left_wrist"), "right_wrist"),  # the other hand's
        (("overhead", "right_wrist"), "cam_left_wrist"),
        (("overhead", "left_wrist", "right_wrist"), "wrist_image"),  # of two hands
        (("left_wrist", "overhead"), "image"),  # the first is at a wrist
    ],
)
def test_a_common_name_never_means_another_camera(reader, cameras, key):
    own = of_cameras(reader, *cameras)
    message = dict.fromkeys(cameras, BLUE) | {key: RED, "prompt": "go"}
    seen = own.step(message).observation.images
    assert [name for name, image in seen.items() if np.array_equal(image, RED)] == [
        name for name in cameras if name == key
    ]
    assert [name for name in cameras if key in own.keys_of(name)] == [name for name in cameras if name == key]


def test_a_lab_s_names_for_primary_are_the_first_camera_s(reader):
    keys = lab_keys(ServerConfig(observation_keys="primary=cam_a"))
    own = of_cameras(reader, "overhead", "left_wrist", lab_keys=keys)
    check_lab_keys(ServerConfig(observation_keys="primary=cam_a"), own.spec)
    np.testing.assert_array_equal(own.step({"cam_a": RED, "prompt": "go"}).observation.images["overhead"], RED)


def test_a_key_that_the_setting_cannot_hold_is_not_recommended(reader):
    own = of_cameras(reader, "front cam")
    with pytest.raises(ProtocolError, match="are both images of the camera 'front cam'") as raised:
        own.step({"front cam": RED, "observation.images.front cam": BLUE, "task": "go"})
    assert raised.value.hint == "send one of them"


def test_a_lab_s_own_name_of_no_camera_is_refused_with_those_that_there_are(reader):
    with pytest.raises(ConfigError, match="no camera 'top'") as caught:
        check_lab_keys(ServerConfig(observation_keys="top=cam"), reader.spec)
    assert caught.value.hint == "names are: primary, wrist, proprio, instruction"


@pytest.mark.parametrize(
    "message",
    [
        {"observation/images/cam_high": RED},
        {"observation.images.cam_high": RED},
        {"images.cam_high": RED},
        {"images": {"cam_high": RED, "cam_low": BLUE}, "state": {"arm": BLUE}},
        {"observation": {"images": {"cam_high": RED}}},
        {"image": {"base_0_rgb": RED}},
        {"video.ego_view": RED},
        {"pixels": {"top": RED}},
    ],
)
def test_where_a_picture_stands_does_not_matter(reader, message):
    images = reader.step({**message, "prompt": "lift it"}).observation.images
    np.testing.assert_array_equal(images["primary"], RED)
    assert set(images) == {"primary"}


@pytest.mark.parametrize("key", ["images.lamp", "lamp", "observation/images/lamp"])
def test_a_key_of_ones_own_may_be_nested(reader, key):
    own = replace(reader, lab_keys={"primary": (key,)})
    np.testing.assert_array_equal(
        own.step({"images": {"lamp": RED}, "image": BLUE, "prompt": "go"}).observation.images["primary"], RED
    )


def test_a_key_of_ones_own_says_which_of_two_places_is_meant(reader):
    message = {"images": {"top": BLUE}, "raw.top": RED, "observation": {"top": RED}, "prompt": "go"}
    with pytest.raises(ProtocolError, match=r"images.top and observation.top are both images of the camera 'primary'"):
        reader.step(message)
    own = replace(reader, lab_keys={"primary": ("observation/top",)})
    np.testing.assert_array_equal(own.step(message).observation.images["primary"], RED)


def test_two_pictures_of_one_camera_are_refused_with_a_way_on_that_works(reader):
    message = {"observation.images.top": RED, "observation.images.front": BLUE, "task": "go"}
    with pytest.raises(ProtocolError, match="are both images of the camera 'primary', and differ") as raised:
        reader.step(message)
    assert raised.value.hint is not None
    (setting,) = re.findall(r'VLA_OBSERVATION_KEYS="(.*)"', raised.value.hint)
    own = replace(reader, lab_keys=lab_keys(ServerConfig(observation_keys=setting)))
    np.testing.assert_array_equal(own.step(message).observation.images["primary"], RED)
    reader.step({"observation.images.top": RED, "observation.images.front": RED.copy(), "task": "go"})


def test_two_instructions_are_refused_and_a_number_beside_one_is_none(reader):
    with pytest.raises(ProtocolError, match="prompt and task are both the instruction"):
        reader.step({"image": RED, "prompt": "lift it", "task": "drop it"})
    assert reader.step({"image": RED, "prompt": "lift it", "task": 3}).task.instruction == "lift it"
    assert reader.step({"image": RED, "prompt": b"lift it", "task": [["lift it"]]}).task.instruction == "lift it"


@pytest.mark.parametrize("order", IN_ORDER)
def test_of_cameras_that_clients_send_together_one_goes_first(reader, order):
    name = "wrist" if "wrist" in order[0] else "primary"
    others = {} if name == "primary" else {"image": RED}
    pictures = {f"observation/{key}": RED if key == order[0] else BLUE for key in reversed(order)}
    images = reader.step({**others, **pictures, "prompt": "go"}).observation.images
    np.testing.assert_array_equal(images[name], RED)


def test_a_picture_that_the_message_masks_is_none(reader):
    pictures = {"base_0_rgb": RED, "left_wrist_0_rgb": BLUE, "right_wrist_0_rgb": BLUE}
    masks = {"base_0_rgb": True, "left_wrist_0_rgb": False, "right_wrist_0_rgb": np.array([False])}
    message = {"image": pictures, "image_mask": masks, "prompt": "go"}
    assert set(reader.step(message).observation.images) == {"primary"}
    only_hands = {**message, "image_mask": {"base_0_rgb": False, "right_wrist_0_rgb": False}}
    assert set(reader.step(only_hands).observation.images) == {"wrist"}
    with pytest.raises(ProtocolError, match="no image for the camera 'primary'"):
        reader.step({**message, "image_mask": dict.fromkeys(pictures, False)})
    with pytest.raises(ProtocolError, match=r"image_mask.base_0_rgb: expected true or false"):
        reader.step({**message, "image_mask": {"base_0_rgb": "no"}})


def test_an_opening_named_gripper_is_no_camera(reader):
    message = {"image": RED, "prompt": "go"}
    for opening in (0.5, [0.5], np.array([0.5])):
        assert set(reader.step({**message, "gripper": opening}).observation.images) == {"primary"}
    assert set(reader.step({**message, "gripper": BLUE}).observation.images) == {"primary", "wrist"}


def test_a_policy_s_other_cameras_are_not_the_first_one_s(reader):
    cameras = tuple(replace(reader.spec.cameras[0], name=name) for name in ("primary", "side"))
    both = replace(reader, spec=replace(reader.spec, cameras=cameras))
    images = both.step({"image": RED, "side": BLUE, "prompt": "go"}).observation.images
    assert [images[name].shape for name in ("primary", "side")] == [RED.shape, BLUE.shape]


def test_a_key_of_ones_own_for_one_camera_is_no_other_s(reader):
    own = replace(reader, lab_keys=lab_keys(ServerConfig(observation_keys="wrist=images.phone")))
    images = own.step({"images": {"laptop": RED, "phone": BLUE}, "task": "go"}).observation.images
    assert [images[name].shape for name in ("primary", "wrist")] == [RED.shape, BLUE.shape]


def test_a_default_instruction_stands_in_for_none_and_the_client_is_told(reader):
    own = replace(reader, default_instruction="wipe the table")
    for message in ({"image": RED}, {"image": RED, "prompt": " "}, {"image": RED, "prompt": None}):
        turn = own.step(message)
        assert turn.task.instruction == "wipe the table"
        assert turn.notes == ("the request has no instruction; the server's default is used: 'wipe the table'",)
    said = own.step({"image": RED, "prompt": "lift it"})
    assert (said.task.instruction, said.notes) == ("lift it", ())
    with pytest.raises(InstructionError):
        own.step({"image": RED, "prompt": 3})


def test_a_message_of_too_many_values_is_refused(reader):
    with pytest.raises(ProtocolError, match="more than 1000 named values"):
        reader.step({"image": RED, "prompt": "go", "more": {str(number): number for number in range(1000)}})


def test_a_batch_and_a_window_of_one_are_one_picture(reader):
    turn = reader.step({"image": RED[None, None], "instruction": ["lift it"]})
    assert turn.observation.images["primary"].shape == (4, 6, 3)
    assert turn.task.instruction == "lift it"


def test_a_missing_camera_is_named_with_what_there_is_and_what_is_taken(reader):
    said = "no image for the camera 'primary'; the message has: cam_front, prompt"
    with pytest.raises(ProtocolError, match=said) as raised:
        reader.step({"cam_front": RED, "prompt": "lift it"})
    assert "observation/image" in raised.value.hint
    assert "VLA_OBSERVATION_KEYS" in raised.value.hint


@pytest.mark.parametrize("instruction", [None, "", " ", 3, ["a", "b"], [3], b"\xff"])
def test_an_instruction_is_asked_for(reader, instruction):
    with pytest.raises(InstructionError, match="there is no instruction"):
        reader.step({"image": RED, "prompt": instruction})
    with pytest.raises(InstructionError, match="has 2000 characters"):
        reader.step({"image": RED, "prompt": "a" * 2000})


def test_proprio_is_checked_where_the_policy_takes_it_and_left_where_not(reader):
    message = {"image": RED, "prompt": "lift it", "observation/state": np.array([1, 2, 3], np.float32)}
    np.testing.assert_array_equal(reader.step(message).observation.proprio, [1.0, 2.0, 3.0])
    without = replace(reader, spec=replace(reader.spec, proprio_dim=None))
    assert without.step(message).observation.proprio is None
    for wrong in ([1, 2, np.nan], "abc", [[1], [2, 3]]):
        with pytest.raises(RequestError, match="observation/state: expected finite numbers"):
            reader.step({**message, "observation/state": wrong})
    with pytest.raises(RequestError, match="expected 3 numbers, got 2"):
        reader.step({**message, "observation/state": [1, 2]})


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
    turn = reader.step(message)
    assert (turn.session_id, turn.seed, turn.sequence, turn.obs_time) == ("arm-1", 7, 3, 1.0)
    assert (turn.deadline_ms, turn.reset, turn.token) == (50.5, True, None)
    assert turn.settings == {"execution": "chunk", "execution_horizon": 2, "dataset": "echo"}
    assert reader.step({"image": RED, "prompt": "lift it", "session_token": "c2VjcmV0"}).token == "c2VjcmV0"


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
        ({"execution": "slowly"}, "execution: Input should be 'receding', 'chunk', 'ensemble', 'rtc'"),
        ({"execution_horizon": 2}, "can only be given together with execution chunk"),
    ],
)
def test_what_a_session_cannot_be_is_refused(reader, field, error):
    with pytest.raises(RequestError, match=error):
        reader.step({"image": RED, "prompt": "lift it", **field})


def test_every_known_name_and_place_is_documented():
    page = (Path(__file__).parents[3] / "docs" / "clients.md").read_text()
    names = {name for keys in KNOWN_KEYS.values() for name in keys}
    assert [name for name in (*sorted(names), *PLACES) if f"`{name}`" not in page] == []
    assert all(f"`{order[0]}` before `{order[1]}`" in page for order in IN_ORDER)


def test_no_name_is_known_for_two_things_and_each_is_known_once():
    bare = {what: [bare_key(key) for key in keys if "/" not in key] for what, keys in KNOWN_KEYS.items()}
    every = [name for names in bare.values() for name in names]
    assert sorted(every) == sorted(set(every))
    assert {name for order in IN_ORDER for name in order} <= set(every)


def test_a_lab_s_own_camera_is_told_from_one_that_is_known(reader):
    own = replace(reader, lab_keys=lab_keys(ServerConfig(observation_keys="primary=lamp")))
    assert own.step({"front": BLUE, "lamp": RED, "prompt": "go"}).sources == {"primary": ("primary", "lamp")}
    assert own.step({"front": BLUE, "wrist": RED, "prompt": "go"}).sources == {"primary": ("primary", "front")}


def test_a_turn_says_which_of_several_cameras_a_picture_is_of(reader):
    message = {"image": RED, "images": {"cam_right_wrist": BLUE}, "prompt": "go"}
    assert reader.step(message).sources == {"wrist": ("cam_left_wrist", "cam_right_wrist")}
