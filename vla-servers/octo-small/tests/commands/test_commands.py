"""The command line, typed as a user would."""

import base64
import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from policy_server import free_port, predict, wait_until_healthy
from vocabulary import train_vocabulary

from octo_service.checkpoints.checkpoint import load_checkpoint
from octo_service.config import OctoConfig
from octo_service.model import OctoModel
from octo_service.program import OCTO
from vla_server_base.commands.serve import create_app
from vla_server_base.config import ServerConfig
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.server.uvicorn_server import serving

TINY = {"OCTO_MODEL": "random://octo-tiny", "VLA_DEVICE": "cpu", "VLA_SCENE_WORKERS": "1"}
EVENTS = ["start", "step", "step", "end"]


def octo_service(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "octo_service.cli", *map(str, arguments)]
    settings = {**os.environ, **TINY, "VLA_CACHE_DIR": str(_cache(cwd)), **environment}
    return subprocess.run(
        command,
        cwd=cwd,
        env=settings,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=240,
        check=False,
    )


def test_the_demo_plays_an_episode_says_how_it_went_and_ends(tmp_path: Path):
    result = octo_service("demo", "--max-steps", "3", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^episode +not done: 3 actions, 0.6 s of simulated time$", result.stdout, re.MULTILINE)
    animation = re.search(r"^animation +(\S+)$", result.stdout, re.MULTILINE)
    assert animation is not None, result.stdout
    with Image.open(animation[1]) as image:
        assert getattr(image, "n_frames", 1) == 4
    assert "random weights" in result.stdout
    assert "Warning" not in result.stderr


def _cache(folder: Path) -> Path:
    """One cache beside the folders of all tests: each of them would compile the same programs."""
    return folder.parent / "cache"


@contextlib.contextmanager
def demo_in_a_terminal(folder: Path, **environment: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The demo's address, and what it printed until it stays up, by the first word of each line."""
    terminal, theirs = pty.openpty()
    port = free_port()
    command = [sys.executable, "-m", "octo_service.cli", "demo", "--max-steps", "2", "--port", str(port)]
    settings = {**os.environ, **TINY, "VLA_CACHE_DIR": str(_cache(folder)), "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**settings, **environment},
        stdin=theirs,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as demo:
        try:
            assert demo.stdout is not None
            printed = {}
            while "serving" not in printed:
                word, _, rest = demo.stdout.readline().partition(" ")
                printed[word] = rest.strip()
            yield f"http://127.0.0.1:{port}", printed
            demo.send_signal(signal.SIGINT)
            assert demo.wait(timeout=60) == 0
        finally:
            demo.kill()
            os.close(terminal)
            os.close(theirs)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that notes which addresses it was to open, in the file `opened` beside it."""
    program = tmp_path_factory.mktemp("browser") / "browser"
    program.write_text('#!/bin/sh\necho "$1" >> "$(dirname "$0")/opened"\n')
    program.chmod(0o755)
    return program


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, browser: Path) -> Iterator[tuple[str, dict[str, str]]]:
    with demo_in_a_terminal(tmp_path_factory.mktemp("demo"), BROWSER=str(browser)) as demo:
        assert not browser.with_name("opened").exists(), "there is no display"
        yield demo


def test_the_demo_stays_up_in_a_terminal_at_the_port_it_is_told(demo: tuple[str, dict[str, str]]):
    url, printed = demo
    assert httpx.get(f"{url}/health").status_code == 200
    assert printed["serving"].startswith(f"at {url} ")
    assert printed["episode"] == "not done: 2 actions, 0.4 s of simulated time"


def test_the_demo_has_an_episode_in_the_console(demo: tuple[str, dict[str, str]]):
    url, printed = demo
    address, _, episode_id = printed["console"].partition("#episode=")
    assert address == f"{url}/"
    assert 'src="console/console.js"' in httpx.get(address).text
    with httpx.stream("GET", f"{url}/episodes/{episode_id}/events", timeout=60) as events:
        lines = list(events.iter_lines())
    assert [line for line in lines if line.startswith("event: ")] == [f"event: {name}" for name in EVENTS]
    assert '"poses":{' in "".join(lines)


def test_the_demo_opens_a_browser_where_there_is_a_display(tmp_path: Path, browser: Path):
    with demo_in_a_terminal(tmp_path, BROWSER=str(browser), DISPLAY=":0") as (_, printed):
        assert browser.with_name("opened").read_text() == f"{printed['console']}\n"


def test_a_demo_without_a_console_begins_no_second_episode(tmp_path: Path):
    with demo_in_a_terminal(tmp_path, VLA_CONSOLE="off") as (url, printed):
        assert "console" not in printed
        assert httpx.get(f"{url}/episodes").json()["episodes"] == []


def test_predict_prints_an_action_and_where_the_pictures_lie(tmp_path: Path):
    result = octo_service("predict", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    action = re.search(r"^action +\[(.*)\]$", result.stdout, re.MULTILINE)
    assert action is not None, result.stdout
    assert np.isfinite([float(number) for number in action[1].split(",")]).sum() == 8
    pictures = re.findall(r"^image +(\S+)$", result.stdout, re.MULTILINE)
    assert len(pictures) == 2
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.size == (224, 224)


def test_predict_asks_a_running_server_with_images_and_a_seed(tmp_path: Path):
    picture, wrist, broken = (tmp_path / name for name in ("seen.png", "wrist.png", "broken.png"))
    Image.new("RGB", (320, 240), (200, 30, 30)).save(picture)
    Image.new("RGB", (320, 240), (30, 200, 30)).save(wrist)
    broken.write_text("no picture")
    server = ServerConfig(cache_dir=tmp_path, device="cpu", renderer="raycast", scene_workers=1)
    with serving(create_app(OCTO, server, OctoConfig(model="random://octo-tiny"))) as url:
        wait_until_healthy(url)
        arguments = ("predict", "open the drawer", "--image", picture, "--seed", "7", "--url", url)
        first, again = (octo_service(*arguments, cwd=tmp_path) for _ in range(2))
        both = octo_service(*arguments, "--image-wrist", wrist, "--out", tmp_path / "both", cwd=tmp_path)
        refused = octo_service("predict", "--image", broken, "--url", url, cwd=tmp_path)
        silent = octo_service("predict", "", "--image", picture, "--url", url, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "seed 7" in first.stdout
    assert {path.name for path in (tmp_path / "both").iterdir()} == {"primary.png", "wrist.png"}
    assert both.stdout.splitlines()[2] != first.stdout.splitlines()[2], "the wrist's picture changes the action"
    for result in (refused, silent):
        assert (result.returncode, result.stdout) == (1, "")
        assert re.fullmatch(r"octo-service: .+; .+\n", result.stderr), result.stderr
    actions = [re.search(r"^action .*$", result.stdout, re.MULTILINE) for result in (first, again)]
    assert [action and action[0] for action in actions] == [actions[0] and actions[0][0]] * 2


def test_predict_shows_pictures_to_any_cameras_of_the_checkpoint(goldens: Path, tmp_path: Path):
    """And a scene, and over HTTP, by the checkpoint's own names."""
    vocabulary = tmp_path / "spiece.model"
    vocabulary.write_bytes(train_vocabulary())
    checkpoint = str(goldens / "variants" / "diff_proprio_2wrist" / "ckpt")
    cameras = ("primary", "wrist_left", "wrist_right")
    for number, camera in enumerate(cameras):
        Image.new("RGB", (64, 48), (50 * number, 0, 0)).save(tmp_path / f"{camera}.png")
    server = ServerConfig(cache_dir=tmp_path, device="cpu", renderer="raycast", scene_workers=1)
    with serving(create_app(OCTO, server, OctoConfig(model=checkpoint, tokenizer=vocabulary))) as url:
        wait_until_healthy(url)
        images = [f"{camera}={camera}.png" for camera in cameras]
        shown = octo_service("predict", "fold", "--images", *images, "--url", url, cwd=tmp_path)
        seen = {camera: base64.b64encode((tmp_path / f"{camera}.png").read_bytes()).decode() for camera in cameras}
        exchanged = {**seen, "wrist_left": seen["wrist_right"], "wrist_right": seen["wrist_left"]}
        asked = {"instruction": "fold", "seed": 7}
        first, other = (predict(url, {**asked, "images": each}) for each in (seen, exchanged))
        scene = {"xml_string": bundled_scene("panda", "tabletop"), "cameras": {"wrist_left": "wrist"}}
        rendered = predict(url, {**asked, **scene})
    assert shown.returncode == 0, shown.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{camera}.png" for camera in cameras}
    assert first["action"] != other["action"], "each picture goes to its own camera"
    assert rendered["cameras"] == {"primary": "primary", "wrist_left": "wrist"}


def test_convert_writes_a_checkpoint_that_loads(tmp_path: Path):
    result = octo_service("convert", "random://octo-tiny", tmp_path / "tiny", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    vocabulary = tmp_path / "spiece.model"
    vocabulary.write_bytes(train_vocabulary())
    loaded = OctoModel.load_pretrained(tmp_path / "tiny", tokenizer=vocabulary)
    source = OctoModel.load_pretrained("random://octo-tiny")
    assert loaded.checkpoint.params.keys() == source.checkpoint.params.keys()
    for path, leaf in source.checkpoint.params.items():
        np.testing.assert_array_equal(loaded.checkpoint.params[path], leaf)


def test_convert_keeps_every_camera(goldens: Path, tmp_path: Path):
    vocabulary = tmp_path / "spiece.model"
    vocabulary.write_bytes(train_vocabulary())
    source = goldens / "variants" / "diff_proprio_2wrist" / "ckpt"
    result = octo_service("convert", source, "converted", "--tokenizer", vocabulary, cwd=tmp_path)
    assert result.stdout.endswith("cameras primary, wrist_left, wrist_right\n"), result.stdout + result.stderr
    converted = OctoModel.load_pretrained(tmp_path / "converted", tokenizer=vocabulary)
    assert {"image_primary", "image_wrist_left", "image_wrist_right"} <= converted.example_batch["observation"].keys()


def test_convert_writes_safetensors_of_the_same_parameters(tmp_path: Path):
    result = octo_service("convert", "random://octo-tiny", "tiny", "--form", "safetensors", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [file.name for file in tmp_path.glob("tiny/*/default/*")] == ["params.safetensors"]
    source = OctoModel.load_pretrained("random://octo-tiny").checkpoint
    found = load_checkpoint(tmp_path / "tiny")
    assert found.params.keys() == source.params.keys()
    assert all(np.array_equal(found.params[path], leaf) for path, leaf in source.params.items())


def test_check_prints_a_table_and_exits_by_its_outcome(tmp_path: Path):
    result = octo_service("check", "--only", "resize", "--out", tmp_path / "parity.md", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "| 224x224 primary | lanczos_uint8 |" in (tmp_path / "parity.md").read_text()
    unknown = octo_service("check", "--only", "everything", cwd=tmp_path)
    assert unknown.returncode == 1
    assert "known: octo-small-1.5" in unknown.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (("serve",), {"VLA_PORT": "many"}, "VLA_PORT='many'"),
        (("predict", "--url", "http://127.0.0.1:9"), {}, "no policy server answers"),
        (("predict", "--scene", "panda/kitchen"), {"VLA_RENDERER": "raycast"}, "available: tabletop"),
        (("predict",), {"OCTO_MODEL": "no/such/folder"}, "there is no folder"),
        (("convert", "no/such/folder", "out"), {}, "there is no folder"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_exit_code_1(
    arguments: tuple[str, ...], environment: dict[str, str], says: str, tmp_path: Path
):
    result = octo_service(*arguments, cwd=tmp_path, **environment)
    assert result.returncode == 1
    assert says in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("level", "lines"), [("info", 1), ("warning", 0)])
def test_serve_logs_one_line_a_request_as_the_log_level_says(level: str, lines: int, tmp_path: Path):
    port = free_port()
    settings = {
        "VLA_CACHE_DIR": str(tmp_path),
        "VLA_RENDERER": "raycast",
        "VLA_LOG_LEVEL": level,
        "VLA_PORT": str(port),
    }
    command = [sys.executable, "-m", "octo_service.cli", "serve"]
    log = tmp_path / "log"
    with (
        log.open("w") as file,
        subprocess.Popen(command, env={**os.environ, **TINY, **settings}, stderr=file) as server,
    ):
        try:
            answered = False
            deadline = time.monotonic() + 60
            while not answered:
                assert time.monotonic() < deadline
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/scenes").close()
                    answered = True
                time.sleep(0.05)
        finally:
            server.terminate()
    assert len(re.findall(r"path=/scenes status=200", log.read_text())) == lines
