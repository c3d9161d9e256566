"""Octo as a whole: a real server, real scenes, a policy with random weights of the smallest size."""

import base64
import contextlib
import importlib.metadata
import io
import time
import xml.etree.ElementTree
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import jax
import numpy as np
import pytest
from PIL import Image
from policy_server import free_port

from octo_service.adapter import OctoSmallAdapter
from octo_service.model import OctoModel
from vla_server_base.config import ServerConfig
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing.protocol_robots import Gr00tRobot, OpenpiRobot, OpenvlaRobot, VlaEvalRobot

MODEL = "random://octo-tiny"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    config = ServerConfig(cache_dir=tmp_path_factory.mktemp("cache"), device="cpu")
    app = create_vla_app(OctoSmallAdapter(), config, model_id=MODEL)
    with serving(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        wait_until_healthy(client)
        yield client


def wait_until_healthy(client: httpx.Client, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while client.get("/health").status_code != 200:
        assert time.monotonic() < deadline, client.get("/health").text
        time.sleep(0.1)


def predict(client: httpx.Client, **body) -> dict:
    reply = client.post("/predict", json={"instruction": "pick up the red cube", **body})
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.parametrize("robot", ["panda", "widowx"])
def test_a_bundled_scene_and_an_instruction_give_an_action(client: httpx.Client, robot: str):
    xml = client.get(f"/scenes/{robot}/tabletop").text
    reply = predict(client, xml_string=xml, seed=1)
    assert np.shape(reply["action"]) == (8,)
    assert np.shape(reply["actions"]) == (4, 7)
    assert reply["action"] == [*reply["actions"][0], reply["actions"][0][6]]
    assert reply["cameras"] == {"primary": "primary", "wrist": "wrist"}
    assert (reply["dataset"], reply["weights"], reply["model"]) == ("random", "random", MODEL)


def test_the_same_seed_gives_the_same_action_and_another_a_different_one(client: httpx.Client):
    xml = bundled_scene("panda", "tabletop")
    first, again, other = (predict(client, xml_string=xml, seed=seed)["actions"] for seed in (4, 4, 5))
    assert first == again
    assert first != other


def test_an_episode_is_what_the_same_seed_gives_again(client: httpx.Client):
    xml = client.get("/scenes/widowx/tabletop").text
    body = {"instruction": "pick up the red cube", "xml_string": xml, "seed": 4, "max_steps": 3, "execution_horizon": 2}
    one, other = (client.post("/execute", json=body).json() for _ in range(2))
    assert np.shape(one["actions"]) == (3, 7)
    assert one["states"][-1]["time"] == pytest.approx(0.6)
    assert (one["actions"], one["states"]) == (other["actions"], other["states"])


def test_a_picture_gives_what_a_script_gets_from_the_model(client: httpx.Client):
    """The whole path equals the reference's: lanczos to 256, the first step padded, key k, un-normalized."""
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)  # of the policy's size already
    reply = predict(client, image=png(picture), seed=9)
    model = OctoModel.load_pretrained(MODEL)
    actions = model.sample_actions(
        {"image_primary": np.stack([picture] * 2)[None], "timestep_pad_mask": np.array([[False, True]])},
        model.create_tasks(texts=["pick up the red cube"]),
        unnormalization_statistics=model.dataset_statistics["random"]["action"],
        rng=jax.random.PRNGKey(9),
    )
    np.testing.assert_allclose(reply["actions"], np.asarray(actions[0]), atol=1e-6)


def test_a_goal_image_and_several_samples_are_taken(client: httpx.Client):
    xml = bundled_scene("widowx", "tabletop")
    goal = png(np.full((224, 224, 3), 60, np.uint8))
    one = predict(client, xml_string=xml, goal_image=goal, instruction="", seed=2)
    three = predict(client, xml_string=xml, goal_image=goal, instruction="", seed=2, num_samples=3)
    assert np.shape(three["samples"]) == (3, 4, 7)
    np.testing.assert_allclose(three["samples"][0], one["actions"], atol=1e-6)


def test_info_says_that_the_weights_are_random(client: httpx.Client):
    info = client.get("/info").json()
    policy = info["policy"]
    assert (policy["weights"], policy["model"], policy["window"], policy["horizon"]) == ("random", MODEL, 2, 4)
    assert policy["details"]["parameters"]["policy"] > 0
    assert policy["details"]["versions"]["jax"] == jax.__version__


def test_a_panda_from_elsewhere_is_answered_with_its_meshes_as_assets(client: httpx.Client):
    """The Panda of the dm-robotics-panda package: meshes of others, a scene nobody here wrote."""
    xml, assets = _dm_robotics_panda()
    reply = predict(client, xml_string=xml, assets=assets, camera="front", return_image=True, seed=3)
    assert reply["cameras"]["primary"] == "front"
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(reply["images"]["primary"]))))
    assert seen.shape == (224, 224, 3)
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) > 200, "the arm is in the picture"


def _dm_robotics_panda() -> tuple[str, dict[str, str]]:
    """Return the package's arm as it is, with a camera and a light put in front, and the files it names."""
    distribution = importlib.metadata.distribution("dm-robotics-panda")
    folder = Path(str(distribution.locate_file("dm_robotics/panda/assets/panda")))
    root = xml.etree.ElementTree.parse(folder / "panda.xml").getroot()
    compiler = root.find("compiler")
    assert compiler is not None
    meshes = folder / compiler.attrib.pop("meshdir", ".")
    assets = {}
    for element in [*root.iter("mesh"), *root.iter("texture")]:
        if "file" in element.attrib:
            path = meshes / element.attrib["file"]
            element.attrib.setdefault("name", path.stem)
            element.attrib["file"] = path.name
            assets[path.name] = base64.b64encode(path.read_bytes()).decode()
    world = root.find("worldbody")
    assert world is not None
    world.append(
        xml.etree.ElementTree.Element("camera", {"name": "front", "pos": "1.8 0 0.8", "xyaxes": "0 1 0 -0.3 0 1"})
    )
    world.append(xml.etree.ElementTree.Element("light", {"pos": "1 0 3"}))
    return xml.etree.ElementTree.tostring(root, encoding="unicode"), assets


def png(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    ("model_id", "says"),
    [
        ("no/such/folder", "there is no folder"),
        ("hf://rail-berkeley/octo-small-1.5", "OCTO_MODEL"),
    ],
)
def test_a_model_that_cannot_be_had_is_told_by_health_and_predict(
    model_id: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    config = ServerConfig(cache_dir=tmp_path, device="cpu", renderer="raycast", scene_workers=1, load_retry_s=0)
    with serving(create_vla_app(OctoSmallAdapter(), config, model_id=model_id)) as url:
        deadline = time.monotonic() + 60
        while (health := httpx.get(f"{url}/health").json())["status"] == "loading":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert health["status"] == "broken"
        assert says in health["reason"]
        reply = httpx.post(f"{url}/predict", json={"instruction": "go", "image": "aGk="})
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "model_unavailable")


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "file").write_text("in the way")
    config = ServerConfig(cache_dir=tmp_path / "file", device="cpu", renderer="raycast", scene_workers=1)
    app = create_vla_app(OctoSmallAdapter(), config, model_id="bundled://tabletop")
    with serving(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        wait_until_healthy(client)
        reply = predict(client, image=png(np.zeros((8, 8, 3), np.uint8)), session_id="arm", return_token=True)
    assert reply["session"]["token"]
    assert "is not writable (File exists)" in caplog.text


def test_robots_of_four_protocols_at_once_get_what_each_gets_alone_though_cameras_miss_frames(tmp_path):
    port = free_port()
    config = ServerConfig(cache_dir=tmp_path, device="cpu", zmq_port=port, scene_workers=1)
    with serving(create_vla_app(OctoSmallAdapter(), config, model_id=MODEL)) as url:
        made = [partial(OpenpiRobot, url), partial(VlaEvalRobot, url), partial(OpenvlaRobot, url, "arm")]
        made.append(partial(Gr00tRobot, port))
        # The first waits until the policy is there.
        alone = [episode(make, seed) for seed, make in enumerate(made)]
        with ThreadPoolExecutor(len(made)) as threads:
            together = list(threads.map(episode, made, range(len(made))))
    np.testing.assert_array_equal(together, alone)
    assert len(np.unique(np.array(alone)[:, 0], axis=0)) == len(made), "each has noise of its own"


def episode(make, seed: int, num_steps: int = 12) -> np.ndarray:
    with contextlib.closing(make()) as robot:
        robot.begin(seed)
        pictures = np.random.default_rng(seed).integers(0, 255, (num_steps, 32, 32, 3), np.uint8)
        seen = [
            (None if step % 4 == 2 else picture, None if step % 4 == seed % 2 else picture[::-1].copy())
            for step, picture in enumerate(pictures)
        ]
        return np.array([robot.act(primary, "pick up the red cube", wrist) for primary, wrist in seen], np.float32)
