"""What the command line does, one class a command; fields are its flags, environment variables their defaults."""

import base64
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from octo_service import parity
from octo_service.adapter import OctoSmallAdapter
from octo_service.checkpoint import Form, save_checkpoint
from octo_service.config import OctoConfig
from octo_service.http_client import Server
from octo_service.model import OctoModel
from vla_server_base.app import create_vla_app
from vla_server_base.config import ServerConfig, config_from_environment
from vla_server_base.program import serve
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.serving import serving
from vla_server_base.tabletop.phrasings import task_said
from vla_server_base.tabletop.tables import table_of
from vla_server_base.wire.execute import success_to_body


def _server_config() -> ServerConfig:
    return config_from_environment(ServerConfig, "VLA")


def _octo_config() -> OctoConfig:
    return config_from_environment(OctoConfig, "OCTO")


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve Octo over HTTP."""

    server: ServerConfig = field(default_factory=_server_config)
    octo: OctoConfig = field(default_factory=_octo_config)

    def run(self) -> None:
        """Serve until stopped."""
        serve(self.app())

    def app(self) -> Any:
        """Return the app that these settings describe."""
        adapter = OctoSmallAdapter(self.octo)
        return create_vla_app(adapter, self.server, model_id=self.octo.model)


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Ask for one action: of a running server (`--url`), or of one that is started for it."""

    instruction: Annotated[str, tyro.conf.Positional] = "pick up the red cube"
    """What the robot is to do."""

    scene: str = "panda/tabletop"
    """A bundled scene as robot/scene, or the path of an MJCF file."""

    image: Path | None = None
    """A picture of the primary camera, instead of a scene."""

    seed: int | None = None
    """The noise; the same seed gives the same action."""

    out: Path = Path("out")
    """Where the pictures go that the policy saw."""

    url: str | None = None
    """A running server; by default one is started."""

    server: ServerConfig = field(default_factory=_server_config)
    octo: OctoConfig = field(default_factory=_octo_config)

    def run(self) -> None:
        """Print the action."""
        with self.running() as server:
            self.ask(server)

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Give the running server, or one started for this command."""
        if self.url is not None:
            yield Server(self.url)
            return
        server = replace(self.server, load_retry_s=0)  # somebody waits
        with serving(Serve(server=server, octo=self.octo).app()) as url:
            print(f"loading {self.octo.model}", file=sys.stderr)
            server = Server(url)
            server.wait_until_healthy()
            yield server

    def ask(self, server: Server) -> None:
        """Send the scene and the instruction; print what comes back."""
        body: dict[str, Any] = {"instruction": self.instruction, "return_image": True}
        if self.seed is not None:
            body["seed"] = self.seed
        if self.image is not None:
            body["image"] = base64.b64encode(self.image.read_bytes()).decode()
        else:
            body["xml_string"] = _scene_xml(self.scene)
        started = time.perf_counter()
        reply = server.post("/predict", body)
        took_ms = 1e3 * (time.perf_counter() - started)
        print(f"model        {_model_and_meaning(reply)}")
        print(f"instruction  {self.instruction}")
        print(f"action       {[round(number, 5) for number in reply['action']]}")
        print(f"             {', '.join(reply['action_names'])}; dataset {reply['dataset']}, seed {reply['seed']}")
        for camera, picture in reply["images"].items():
            print(f"picture      {_write(self.out / f'{camera}.png', base64.b64decode(picture))}")
        print(f"took         {took_ms:.0f} ms, of which {reply['timing_ms']['infer']:.0f} ms on the device")


@dataclass(frozen=True, kw_only=True)
class Demo(Predict):
    """Start a server, let its policy do what it is told in a scene, and keep serving where there is a terminal."""

    max_steps: int = 60
    """Actions after which the episode ends, if the task is not done before."""

    def run(self) -> None:
        """Print how the episode went; with ONCE=1, or without a terminal, end there."""
        with self.running() as server:
            self.play(server)
            if os.environ.get("ONCE") == "1" or not sys.stdin.isatty():
                return
            print(f"\nserving at {server.url} - its API is at {server.url}/docs; Ctrl-C ends it")
            threading.Event().wait()

    def play(self, server: Server) -> None:
        """Have an episode played, print how it went, and write its animation."""
        body: dict[str, Any] = {
            "instruction": self.instruction,
            "xml_string": _scene_xml(self.scene),
            "success": _success(self.scene, self.instruction),
            "max_steps": self.max_steps,
            "record": ["webp"],
            "seed": 0 if self.seed is None else self.seed,
        }
        reply = server.post("/execute", body)
        steps = reply["steps"]
        asked_ms = statistics.median(step["timing_ms"]["predict"] for step in steps)
        done = {True: "done", False: "not done", None: "whether it is done is not known"}[reply["success"]]
        print(f"model        {_model_and_meaning(reply)}")
        print(f"instruction  {self.instruction}")
        print(f"episode      {done}: {len(steps)} actions, {reply['states'][-1]['time']:.1f} s of simulated time")
        print(f"animation    {_write(self.out / 'episode.webp', base64.b64decode(reply['recordings']['webp']))}")
        print(f"took         {reply['duration_ms'] / 1e3:.1f} s, of which the policy {asked_ms:.0f} ms an action")


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Write any checkpoint (a folder of any form, hf://, bundled://, random://) in the reference's one-file layout."""

    source: Annotated[str, tyro.conf.Positional]
    """The checkpoint to read."""

    target: Annotated[Path, tyro.conf.Positional]
    """The folder to write to."""

    step: int | None = None
    """Which step, where there are several; the latest by default."""

    form: Form = "reference"
    """safetensors are mapped into memory as they are, by this package alone."""

    octo: OctoConfig = field(default_factory=_octo_config)

    def run(self) -> None:
        """Load and save."""
        model = OctoModel.load_pretrained(self.source, step=self.step, tokenizer=self.octo.tokenizer)
        save_checkpoint(self.target, model.checkpoint, self.form)
        print(f"{self.target}: step {model.checkpoint.step}, {len(model.checkpoint.params)} arrays")


@dataclass(frozen=True, kw_only=True)
class Check:
    """Compare the model with recorded outputs of the reference; exit 1 where one is out of tolerance."""

    goldens: Path = Path(__file__).parents[2] / "tests" / "goldens"
    """The recorded outputs; they come with the source, not with the installed package."""

    only: tuple[str, ...] = ()
    """Names of the sets to compare; all by default."""

    out: Path | None = None
    """A Markdown file to write the tables to; they are printed in any case."""

    octo: OctoConfig = field(default_factory=_octo_config)

    def run(self) -> None:
        """Print one table per set."""
        comparisons = list(parity.compare_all(self.goldens, self.only, self.octo.tokenizer))
        report = parity.report(comparisons)
        print(report)
        if self.out is not None:
            self.out.write_text(report)
        if not all(comparison.passed for comparison in comparisons):
            sys.exit(1)


def _scene_xml(name: str) -> str:
    robot, _, scene = name.partition("/")
    return Path(name).read_text() if name.endswith(".xml") else bundled_scene(robot, scene)


def _success(scene: str, instruction: str) -> list[dict[str, Any]]:
    """Return when a task of the tabletop suite is done, where the scene and the instruction are the suite's."""
    robot, _, name = scene.partition("/")
    task = task_said(instruction)
    return success_to_body(task.success(table_of(robot))) if task and name == "tabletop" else []


def _model_and_meaning(reply: Mapping[str, Any]) -> str:
    meaning = " - random weights: right shapes, no meaning" if reply["weights"] == "random" else ""
    return f"{reply['model']}{meaning}"


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path.resolve()
