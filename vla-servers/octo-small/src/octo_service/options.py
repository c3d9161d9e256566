"""What can be typed: a class a command, whose fields are its flags. Nothing is imported here that takes long."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field

from octo_service.config import OctoConfig
from octo_service.flags import flags_of
from octo_service.training.fit import Fit
from octo_service.training.intervals import Timetable
from octo_service.training.recipe import Recipe
from vla_server_base.config import ServerConfig
from vla_server_base.schemas.ranges import EnsembleWeight, Seed
from vla_server_base.tabletop.splits import FIRST_SEED, Split

SCENE_SETTINGS = (
    "renderer",
    "scene_workers",
    "scene_timeout_s",
    "scene_memory_mb",
    "scene_worker_max_scenes",
    "scene_worker_max_jobs",
    "scene_shadows",
    "scene_reflections",
    "scene_multisampling",
)
"""What a command reads of a server's settings where it draws scenes itself."""

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve Octo over HTTP."""

    server: Annotated[ServerConfig, flags_of(ServerConfig, "VLA")]
    octo: Annotated[OctoConfig, flags_of(OctoConfig, "OCTO")]


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Ask for one action: of a running server (`--url`), or of one that is started for it."""

    instruction: Annotated[str, tyro.conf.Positional] = "pick up the red cube"
    """What the robot is to do."""

    scene: str | None = None
    """A bundled scene as robot/scene, or the path of an MJCF file; panda/tabletop where no picture is given."""

    image: Path | None = None
    """A picture of the policy's first camera, instead of a scene."""

    image_wrist: Path | None = None
    """A picture of the camera `wrist`."""

    images: tuple[str, ...] = ()
    """Pictures by the policy's names for its cameras, such as left=left.png top=top.png."""

    cameras: tuple[str, ...] = ()
    """The scene's cameras by the policy's names for what they show, such as left=frontview."""

    seed: Seed | None = None
    """The noise; the same seed gives the same action."""

    out: Path = Path("out")
    """Where the pictures go that the policy saw."""

    url: str | None = None
    """A running server, such as http://127.0.0.1:8002; by default one is started, to which the settings below apply."""

    server: Annotated[ServerConfig, flags_of(ServerConfig, "VLA", "device", "cache_dir", *SCENE_SETTINGS)]
    octo: Annotated[OctoConfig, flags_of(OctoConfig, "OCTO")]


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Start a server, let its policy do what it is told in a scene, and keep serving where there is a terminal."""

    instruction: Annotated[str, tyro.conf.Positional] = "pick up the red cube"
    """What the robot is to do."""

    scene: str = "panda/tabletop"
    """A bundled scene as robot/scene, or the path of an MJCF file."""

    seed: Seed = 0
    """The noise; the same seed gives the same episode."""

    max_steps: Count = 60
    """Actions after which the episode ends, if the task is not done before."""

    out: Path = Path("out")
    """Where the animation goes."""

    server: Annotated[
        ServerConfig,
        flags_of(ServerConfig, "VLA", "host", "port", "device", "cache_dir", *SCENE_SETTINGS, VLA_PORT="0"),
    ]
    octo: Annotated[OctoConfig, flags_of(OctoConfig, "OCTO")]


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Write any checkpoint (a folder of any form, hf://, bundled://, random://) in the reference's one-file layout."""

    source: Annotated[str, tyro.conf.Positional]
    """The checkpoint to read."""

    target: Annotated[Path, tyro.conf.Positional]
    """The folder to write to."""

    step: int | None = None
    """Which step, where there are several; the latest by default."""

    form: Literal["reference", "safetensors"] = "reference"
    """safetensors are mapped into memory as they are, by this package alone."""

    octo: Annotated[OctoConfig, flags_of(OctoConfig, "OCTO", "tokenizer")]


@dataclass(frozen=True, kw_only=True)
class ConvertData:
    """Convert recordings (RLDS, HDF5 of robomimic and ALOHA, LeRobot) to a LeRobot dataset to train on."""

    source: Annotated[Path, tyro.conf.Positional]
    """An HDF5 file or a folder of them, an RLDS dataset's folder, or a dataset of another form."""

    out: Annotated[Path, tyro.conf.Positional]
    """The folder to write to; it must not be there."""

    fps: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Timesteps a second; by default what the recording says."""

    camera: tuple[str, ...] = ()
    """Cameras as name=key, such as primary=obs/agentview_image; by default all pictures that are observed."""

    action_key: tuple[str, ...] = ()
    """What the action is, several arrays one behind another; `action` or `actions` by default."""

    state_key: tuple[str, ...] = ()
    """The robot's own numbers, likewise; by default those of robomimic, LIBERO, ALOHA and Open X-Embodiment."""

    instruction_key: str | None = None
    """The text that says what was done; by default `language_instruction` and the like."""

    instruction: str | None = None
    """What was done in episodes that do not say it."""

    split: str = "train"
    """The part of an RLDS dataset."""

    without: tuple[str, ...] = ()
    """Episodes to leave out, by the names that errors and the dataset give them, such as 12 or demo_12."""

    lossless: bool = False
    """Store images as PNG, exactly and at any size, instead of as video."""

    robot: str | None = None
    """The robot's name in the LeRobot dataset."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Compare the model with recorded outputs of the reference; exit 1 where one is out of tolerance."""

    goldens: Path = Path(__file__).parents[2] / "tests" / "goldens"
    """The recorded outputs; they come with the source, not with the installed package."""

    only: tuple[str, ...] = ()
    """Names of the sets to compare; all by default."""

    out: Path | None = None
    """A Markdown file to write the tables to; they are printed in any case."""

    octo: Annotated[OctoConfig, flags_of(OctoConfig, "OCTO", "tokenizer")]


@dataclass(frozen=True, kw_only=True)
class Demonstrate:
    """Have experts show the tabletop suite's tasks, and record it; a second run adds what is missing."""

    out: Path
    """The folder to record to."""

    lossless: bool = True
    """Store images as PNG, exactly as they were rendered, instead of as video."""

    tasks: tuple[str, ...] = ()
    """Tasks by name, or by how their names begin (pick_up, push); all by default."""

    episodes_per_task: Count = 100
    """Trials of each task; those in which the expert fails are left out."""

    seed: Seed = 0
    """The first trial's; the others' follow it."""

    robot: str = "panda"
    """Whose tabletop."""

    sizes: tuple[str, ...] = ("primary=128", "wrist=64")
    """The policy's cameras and their sides in pixels."""

    random_views: Annotated[int, Field(ge=0)] = 0
    """Random views a step: single timesteps with resampled objects and task, recorded to OUT-random-views."""

    policy: str | None = None
    """A policy that drives at first: a checkpoint, or a server's address. The actions to learn are the expert's."""

    policy_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The chance that the policy does so in an episode."""

    policy_steps: Annotated[int, Field(ge=0)] | Literal["all"] = 25
    """For how many steps at most, drawn from 0 to this; `all` lets it drive to the end."""

    policy_horizon: Count = 1
    """Actions of each of its chunks that are executed before it is asked again."""

    workers: Count = 2
    """Processes that simulate and draw."""


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """Train a policy on recorded episodes: a checkpoint further, or an architecture from scratch."""

    recipe: Recipe

    out: Path
    """The run's folder; it is a checkpoint to serve, too."""

    resume: bool = False
    """Go on with the run in `out` where it was killed."""

    timetable: Timetable = field(default_factory=Timetable)

    fit: Fit = field(default_factory=Fit)

    evaluate_tasks: tuple[str, ...] = ()
    """Tasks of the closed loop, by how their names begin; all by default."""

    evaluate_trials: Count = 10
    """Trials of each task."""

    server: Annotated[ServerConfig, flags_of(ServerConfig, "VLA", "device", "cache_dir", *SCENE_SETTINGS)]


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Run the tabletop suite against a checkpoint or a server; print success per task, as Markdown."""

    policy: Annotated[str, tyro.conf.Positional]
    """A server's address (http://...) or a checkpoint: a folder, hf://, bundled://, random://."""

    tasks: tuple[str, ...] = ()
    """Tasks by name, or by how their names begin (pick_up, push); all by default."""

    trials: Count = 50
    """Trials of each task."""

    seed: Seed = FIRST_SEED
    """The first trial's; the others' follow it. Trials for training have seeds below the default."""

    split: Split = "train"
    """Whether tasks are said as in training, or in ways that were held out; scenes and starts are the same."""

    grounding: Annotated[int, Field(ge=0)] | None = None
    """Scenes in which each object is asked for in turn; by default `trials` where something is to be picked up."""

    robot: str = "panda"
    """Whose tabletop."""

    through: Literal["predict", "execute"] = "predict"
    """Of a server: ask for each action and simulate here, or have whole episodes run there."""

    execution_horizon: Count = 1
    """Actions of each chunk that are executed before the policy is asked again."""

    ensemble_weight: EnsembleWeight | None = None
    """Average what overlapping chunks say, with weights exp(-w i), the oldest i = 0."""

    latency_ms: Annotated[float, Field(ge=0)] = 0.0
    """Simulated time that passes while the policy thinks."""

    window: Count | None = None
    """How many observations the policy is shown; all that it takes by default, the rest is padding."""

    max_steps: Count = 75
    """Actions after which a trial has failed: 15 s at 5 Hz."""

    videos: Path | None = None
    """A folder for animations of failures."""

    max_videos: Annotated[int, Field(ge=0)] = 20
    """At most so many in that folder."""

    out: Path | None = None
    """A file for the results, as JSON lines; trials that it holds already are not run again."""

    server: Annotated[ServerConfig, flags_of(ServerConfig, "VLA", "device", "cache_dir", *SCENE_SETTINGS)]
    octo: Annotated[OctoConfig, flags_of(OctoConfig, "OCTO", "tokenizer", "dataset", "precision")]


Options = Serve | Demo | Predict | Convert | ConvertData | Check | Demonstrate | Finetune | Evaluate

COMMANDS: dict[str, type[Options]] = {
    "serve": Serve,
    "demo": Demo,
    "predict": Predict,
    "convert": Convert,
    "convert-data": ConvertData,
    "check": Check,
    "demonstrate": Demonstrate,
    "finetune": Finetune,
    "evaluate": Evaluate,
}
