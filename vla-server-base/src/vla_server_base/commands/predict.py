"""`predict`: one action, of a running server or of one that is started for it."""

import asyncio
import base64
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla_server_base.access.binding import is_loopback
from vla_server_base.commands.options import Predict
from vla_server_base.commands.program import Config, PolicyProgram
from vla_server_base.commands.progress import phase
from vla_server_base.commands.serve import create_app
from vla_server_base.config import ServerConfig
from vla_server_base.episodes import PolicyServer
from vla_server_base.errors import SceneError, UsageError
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.server.uvicorn_server import serving

SCENE = "panda/tabletop"


def run(options: Predict[Config], program: PolicyProgram[Config]) -> None:
    """Print the action. What is wrong with the files is said before a server is started."""
    body = _body(options)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.url is not None:
        _ask(options.url, body, options.out)
        return
    server = replace(options.server, host="127.0.0.1", port=0)
    with local_server(program, server, options.config) as url:
        _ask(url, body, options.out)


def _body(options: Predict[Any]) -> dict[str, Any]:
    """Return the request: the scene or the images, and the instruction."""
    named = {"image": options.image, "image_wrist": options.image_wrist}
    given = {name: path for name, path in named.items() if path is not None}
    images = _by_camera("--images", options.images)
    if (given or images) and (options.scene is not None or options.cameras):
        flags = " and ".join("--" + name.replace("_", "-") for name in (*given, *(["images"] if images else [])))
        scene = "--scene" if options.scene is not None else "--cameras"
        raise UsageError(
            f"{scene} and {flags} cannot be combined", hint="the policy sees either a scene or your own images"
        )
    body: dict[str, Any] = {name: _encoded(path) for name, path in given.items()}
    if images:
        body["images"] = {camera: _encoded(Path(path)) for camera, path in images.items()}
    if not body:
        body["xml_string"] = scene_xml(options.scene or SCENE)
        body["cameras"] = _by_camera("--cameras", options.cameras)
    if options.seed is not None:
        body["seed"] = options.seed
    return {"instruction": options.instruction, "return_image": True, **body}


def _by_camera(flag: str, entries: Iterable[str]) -> dict[str, str]:
    """Return what is said of each camera, in `camera=value` each."""
    values = {}
    for entry in entries:
        camera, is_said, value = entry.partition("=")
        if not (camera and is_said) or camera in values:
            raise UsageError(f"{flag} {entry} is not camera=...", hint="name each camera once, such as left=left.png")
        values[camera] = value
    return values


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _ask(url: str, body: Mapping[str, Any], out: Path) -> None:
    """Send it, and print what comes back."""
    started = time.perf_counter()
    reply = asyncio.run(_predict(url, body))
    took_ms = 1e3 * (time.perf_counter() - started)
    print(f"model        {model_and_meaning(reply)}")
    print(f"instruction  {body['instruction']}")
    print(f"action       {[round(number, 5) for number in reply['action']]}")
    print(f"             {', '.join(reply['action_names'])}; dataset {reply['dataset']}, seed {reply['seed']}")
    if unknown := reply.get("unknown_words"):
        print(f"             words that the policy does not know: {', '.join(unknown)}")
    for camera, image in reply["images"].items():
        print(f"image        {write(out / f'{camera}.png', base64.b64decode(image))}")
    print(f"took         {took_ms:.0f} ms, of which {reply['timing_ms']['infer']:.0f} ms on the device")


async def _predict(url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    async with PolicyServer(url, "human") as server:
        return await server.predict(body)


@contextmanager
def local_server(program: PolicyProgram[Config], server: ServerConfig, config: Config) -> Iterator[str]:
    """Start a server for a `with` block, wait until its policy answers, and yield its address.

    Raises:
        Unavailable: the policy cannot be loaded; with the reason.
    """
    server = replace(server, load_retry_s=0)  # somebody waits
    if is_loopback(server.host):  # this command alone asks it
        server = replace(server, keys_file="", api_keys="", lerobot_key="", zmq_host="")
        server = replace(server, tls_cert="", tls_key="", tls_client_ca="")
    with serving(create_app(program, server, config), host=server.host, port=server.port) as url:
        phase(f"loading and compiling {config.model}")
        asyncio.run(_wait_until_healthy(url))
        yield url


async def _wait_until_healthy(url: str) -> None:
    async with PolicyServer(url, "human") as server:
        await server.wait_until_healthy()


def scene_xml(name: str) -> str:
    """Return a scene's MJCF: a bundled one's, by robot/scene, or a file's.

    Raises:
        UnknownName, SceneError: there is none by this name, or the file is not text.
    """
    if not name.endswith(".xml") and not Path(name).is_file():
        robot, _, scene = name.partition("/")
        return bundled_scene(robot, scene)
    try:
        return Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SceneError(f"--scene {name} is not text in UTF-8", hint="name an MJCF file, such as scene.xml") from error


def model_and_meaning(reply: Mapping[str, Any]) -> str:
    """Name the model of a reply, and say where its weights are random."""
    meaning = " - random weights: right shapes, no meaning" if reply["weights"] == "random" else ""
    return f"{reply['model']}{meaning}"


def write(path: Path, content: bytes) -> Path:
    """Write a file and return where it is."""
    path.write_bytes(content)
    return path.resolve()
