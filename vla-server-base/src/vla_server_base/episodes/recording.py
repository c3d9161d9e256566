"""Episodes to keep: an animated WebP, a state log for MuJoCo, a LeRobot dataset. None of it on the event loop."""

import io
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float
from PIL import Image as PillowImage

from vla_server_base.contract import Image
from vla_server_base.datasets.episode import RecordedEpisode
from vla_server_base.datasets.open import open_writer
from vla_server_base.scenes.messages import SimulationState

RecordingKind = Literal["webp", "state_log", "lerobot"]

_QUALITY = 80


def animated_webp(frames: Sequence[Image], rate_hz: float) -> bytes:
    """Return an animation that plays at the episode's own speed, over and over."""
    first, *rest = (PillowImage.fromarray(frame) for frame in frames)
    buffer = io.BytesIO()
    first.save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=rest,
        duration=round(1000 / rate_hz),
        loop=0,
        quality=_QUALITY,
        method=0,
    )
    return buffer.getvalue()


def state_log(xml: str, states: Iterable[SimulationState]) -> str:
    """Return the scene with one more keyframe for each state, named `episode 0`, `episode 1`, ...

    In MuJoCo's viewer, the keyframe slider then goes through the episode; `mj_resetDataKeyframe` does in a program.
    `xml` must have been screened: it is parsed here.
    """
    scene = ElementTree.fromstring(xml)
    keyframes = ElementTree.SubElement(scene, "keyframe")
    for number, state in enumerate(states):
        numbers = {"qpos": state.qpos, "qvel": state.qvel, "ctrl": state.ctrl}
        written = {name: _numbers(values) for name, values in numbers.items() if len(values)}
        ElementTree.SubElement(keyframes, "key", {"name": f"episode {number}", "time": repr(state.time_s), **written})
    return ElementTree.tostring(scene, encoding="unicode")


def lerobot_dataset(episodes: Iterable[RecordedEpisode], rate_hz: float, robot: str) -> bytes:
    """Return a zip with a LeRobot dataset (version 3.0) of some episodes, their images exact.

    Raises:
        DatasetError: the rate is not a whole number, or packages are missing (extra `datasets`).
    """
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        writer = open_writer(folder, rate_hz, robot, lossless=True)
        for episode in episodes:
            writer.append(episode)
        writer.close()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(folder).rglob("*")):
                archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def _numbers(values: Float[np.ndarray, " numbers"]) -> str:
    return " ".join(map(repr, values.tolist()))
