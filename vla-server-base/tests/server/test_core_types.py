"""Wire types become core types at the door: what `to_core` makes of a request, without a server."""

import base64
import io
import logging

import numpy as np
import pytest
from echo_server import encoded, of_one_colour
from PIL import Image

from vla_server_base.config import ServerConfig
from vla_server_base.errors import ImageError, InstructionError, RequestError, UnknownName
from vla_server_base.request_context import RequestIdFilter, begin_request, current_client, logged_path
from vla_server_base.request_inputs import MAX_SIDE, check_size, decode_base64, decode_image, encode_jpeg, encode_png
from vla_server_base.scenes.robots import RobotDescription
from vla_server_base.schemas.base import Upload
from vla_server_base.schemas.execute import ExecuteRequest
from vla_server_base.schemas.inputs import ExecuteInputs, PredictInputs
from vla_server_base.schemas.predict import PredictRequest
from vla_server_base.server.http_body import body_from_upload
from vla_server_base.testing import EchoAdapter

SPEC, CONFIG = EchoAdapter().spec, ServerConfig(max_samples=4)
RED, BLUE = of_one_colour(255, 0, 0), of_one_colour(0, 0, 255)
SCENE = "<mujoco/>"


def core(config=CONFIG, **fields) -> PredictInputs:
    return PredictRequest(**{"instruction": "go", **fields}).to_core(SPEC, config, lambda _camera, image: image)


def episode(**fields) -> ExecuteInputs:
    body = ExecuteRequest(**{"instruction": "go", "xml_string": SCENE, **fields})
    return body.to_core(SPEC, CONFIG, lambda _camera, image: image)


def test_an_image_request_is_decoded_and_has_no_scene():
    inputs = core(image=RED, images={"wrist": BLUE}, proprio=[1.0, 2.0, 3.0], seed=7)
    (observation,) = inputs.observations
    assert observation.images["primary"][0, 0].tolist() == [255, 0, 0]
    assert observation.images["wrist"][0, 0].tolist() == [0, 0, 255]
    assert observation.proprio.tolist() == [1.0, 2.0, 3.0]
    assert (inputs.scene, inputs.session, inputs.seed) == (None, None, 7)


def test_history_comes_before_the_newest_observation():
    inputs = core(image=RED, history=({"image": BLUE},))
    assert [each.images["primary"][0, 0, 0] for each in inputs.observations] == [0, 255]


def test_a_scene_request_keeps_its_state_cameras_and_arm():
    inputs = core(
        xml_string=SCENE,
        camera="front",
        state={"qpos": [0.5], "mocap_pos": [(1.0, 2.0, 3.0)]},
        robot={"joints": ["a"], "end_effector": "tip", "home": [0.1]},
        guard="clamp",
        bounds={"workspace": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))},
        action_format="joint_position",
    )
    assert inputs.scene.view.cameras == {"primary": "front", "wrist": None}
    assert inputs.scene.state.qpos.tolist() == [0.5]
    assert inputs.scene.state.mocap_pos.shape == (1, 3)
    assert isinstance(inputs.scene.robot, RobotDescription)
    assert (inputs.scene.robot.joints, inputs.scene.robot.home) == (("a",), (0.1,))
    assert inputs.scene.bounds.workspace.shape == (2, 3)
    assert inputs.wants_joint_positions
    assert inputs.action_format is None
    assert inputs.needs_preview


def test_a_session_keeps_its_values_and_the_policys_name_of_the_dataset():
    inputs = core(image=RED, session_id="arm", execution="chunk", execution_horizon=2, dataset="echo_doubled")
    assert inputs.session["session_id"] == "arm"
    assert inputs.session["settings"] == {"execution": "chunk", "execution_horizon": 2, "dataset": "echo_doubled"}


def test_the_default_instruction_stands_in_and_the_client_gets_a_note():
    inputs = core(config=ServerConfig(default_instruction="tidy up"), image=RED, instruction=" ")
    assert inputs.task.instruction == "tidy up"
    assert "tidy up" in inputs.notes[0]


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"image": RED, "instruction": ""}, InstructionError, "the instruction is empty"),
        ({"image": RED, "images": {"primary": BLUE}}, ImageError, "both of the camera 'primary'"),
        ({"images": {"left": RED}}, ImageError, "no camera 'left'"),
        ({"image": RED, "proprio": [1.0]}, RequestError, "expected 3 numbers, got 1"),
        ({"image": RED, "proprio": [1e12, 0.0, 0.0]}, RequestError, r"proprio\.0"),
        ({"image": RED, "history": ({"image": RED},) * 2}, RequestError, "expected at most 1 past observations, got 2"),
        ({"image": RED, "num_samples": 5}, RequestError, "limit of 4"),
        ({"image": RED, "action_format": "sideways"}, UnknownName, "sideways"),
        ({"image": RED, "action_format": "joint_position"}, RequestError, "is for a scene"),
        ({"xml_string": SCENE, "cameras": {"left": "front"}}, UnknownName, "left"),
        ({"xml_string": SCENE, "camera": ""}, RequestError, "needs an image"),
        ({"xml_string": SCENE, "camera": "a", "cameras": {"primary": "b"}}, RequestError, "two of the scene's cameras"),
        ({"image": RED, "dataset": "moon"}, UnknownName, "moon"),
    ],
)
def test_what_the_policy_cannot_answer_is_refused_with_a_hint(fields, error, message):
    with pytest.raises(error, match=message) as refusal:
        core(**fields)
    assert refusal.value.hint


def test_an_episode_becomes_its_settings():
    inputs = episode(
        seed=3,
        latency_ms=50.0,
        record=("webp",),
        success=({"kind": "lifted", "body": "cube"}, {"kind": "near", "bodies": ("a", "b")}),
    )
    settings = inputs.settings
    assert (settings.seed, settings.latency_s, settings.with_images) == (3, 0.05, True)
    assert [predicate.measure.kind for predicate in settings.success] == ["height", "distance"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"execution_horizon": 5}, "expected 1 to 4, the length of the policy's chunks"),
        ({"execution": "aligned", "latency_ms": 1000}, "is over before the next one arrives, 1000 ms after"),
        ({"execution": "rtc"}, "rtc is not possible with echo"),
        ({"record": ("webp",), "max_steps": 301}, "at most 300 steps"),
    ],
)
def test_an_episode_that_cannot_be_is_refused_with_a_hint(fields, message):
    with pytest.raises(RequestError, match=message) as refusal:
        episode(**fields)
    assert refusal.value.hint


def test_fields_in_parts_join_the_json_and_none_is_given_twice():
    upload = Upload(request=b'{"seed": 1}', fields={"instruction": "7", "images.wrist": BLUE, "image": RED})
    body = body_from_upload(PredictRequest, upload)
    assert (body.instruction, body.seed, body.images) == ("7", 1, {"wrist": BLUE})
    with pytest.raises(RequestError, match="'seed' is given twice"):
        body_from_upload(PredictRequest, Upload(request=b'{"seed": 1}', fields={"seed": "2"}))


def test_base64_may_be_a_data_url_and_have_line_breaks():
    assert decode_base64("data:image/png;base64,aGVs\nbG8=") == b"hello"
    with pytest.raises(ValueError, match=r"base64|padding|[Nn]on"):
        decode_base64("not base64!")


def test_images_survive_png_exactly_and_jpeg_nearly():
    pixels = np.full((16, 24, 3), (10, 120, 230), np.uint8)
    assert np.array_equal(decode_image(encode_png(pixels), "image", 10_000), pixels)
    assert np.abs(decode_image(encode_jpeg(pixels), "image", 10_000).astype(int) - pixels).max() <= 4


def test_an_image_is_turned_upright_as_its_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    assert decode_image(encoded(np.zeros((8, 16, 3)), "JPEG", exif=exif), "image", 10_000).shape == (16, 8, 3)


@pytest.mark.parametrize(("height", "width"), [(1, MAX_SIDE + 1), (101, 100)])
def test_an_image_that_is_too_large_is_refused_with_a_hint(height, width):
    with pytest.raises(ImageError, match="the limit is") as refusal:
        check_size(height, width, "image", 10_000)
    assert refusal.value.hint


def test_an_image_of_16_bits_is_refused():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(buffer, "PNG")
    with pytest.raises(ImageError, match="8 bits"):
        decode_image(base64.b64encode(buffer.getvalue()).decode(), "image", 10_000)


def test_every_log_record_has_the_id_of_its_request():
    record = logging.LogRecord("any", logging.INFO, __file__, 1, "text", (), None)
    request_id = begin_request("abc", "10.0.0.1")
    assert RequestIdFilter().filter(record)
    assert (vars(record)["request_id"], request_id, current_client.get()) == ("abc", "abc", "10.0.0.1")
    assert begin_request() not in ("", "abc")
    assert current_client.get() == "10.0.0.1", "a message keeps the client of its connection"


def test_a_logged_path_stays_on_its_line_and_short():
    assert logged_path("/a\nb") == "/a%0Ab"
    assert len(logged_path("/" + "x" * 1000)) == 200
