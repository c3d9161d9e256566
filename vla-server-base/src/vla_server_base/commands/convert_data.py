"""`convert-data`: what others recorded, as a dataset to train on."""

import re
import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla_server_base.commands.options import ConvertData
from vla_server_base.commands.program import PolicyProgram
from vla_server_base.commands.progress import progress
from vla_server_base.datasets import EpisodeDataset, Keys, RecordedEpisode, open_recording, open_writer
from vla_server_base.datasets.error_context import error_context
from vla_server_base.errors import DatasetError


def run(options: ConvertData, _program: PolicyProgram[Any]) -> None:
    """Write all episodes, or none if one fails; print which keys were used."""
    if options.out.exists():
        raise DatasetError(f"{options.out} already exists", hint="name another folder")
    keys = Keys(
        action=options.action_key,
        state=options.state_key,
        cameras=_cameras(options.camera),
        instruction=options.instruction_key,
    )
    dataset = open_recording(options.source, keys, options.fps, options.split)
    partial = options.out.with_name(f"{options.out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        episode, count = _write(options, dataset, partial)
        partial.rename(options.out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sizes = [f"{name} {frames.shape[2]}x{frames.shape[1]}" for name, frames in episode.images.items()]
    proprio = "no proprio" if episode.proprio is None else f"proprio of {episode.proprio.shape[1]} numbers"
    instruction = f"the last instruction '{episode.instruction}'" if episode.instruction else "no --instruction"
    print(
        f"{options.out}: {count} episodes at {options.fps or dataset.fps:g} fps, cameras {', '.join(sizes) or 'none'}, "
        f"actions of {episode.actions.shape[1]} numbers, {proprio}, {instruction}"
    )


def _write(options: ConvertData, dataset: EpisodeDataset, folder: Path) -> tuple[RecordedEpisode, int]:
    """Write the episodes; return the last one, and how many there are."""
    names = {dataset.name(index): index for index in range(len(dataset))}
    if unknown := [name for name in options.without if name not in names]:
        raise DatasetError(
            f"--without {unknown[0]}: there is no such episode", hint=f"available: {', '.join(list(names)[:20])}"
        )
    wanted = [index for name, index in names.items() if name not in options.without]
    if not wanted:
        raise DatasetError(f"{options.source}: there is no episode to convert", hint="give a recording that has some")
    fps = options.fps or dataset.fps
    writer = open_writer(folder, fps, options.robot, lossless=options.lossless)
    episode = None
    with closing(writer), progress(len(wanted), "converting", "episode") as bar:
        for index in wanted:
            episode = _instructed(dataset[index], options.instruction)
            with error_context(f"episode {dataset.name(index)}"):
                writer.append(episode)
            bar.update()
    assert episode is not None, "there is one"
    return episode, len(wanted)


def _instructed(episode: RecordedEpisode, instruction: str | None) -> RecordedEpisode:
    return replace(episode, instruction=instruction) if instruction and not episode.instruction else episode


def _cameras(given: tuple[str, ...]) -> Mapping[str, str]:
    return dict(_named(text) for text in given)


def _named(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"(\w+)=(.+)", text)
    if match is None:
        raise DatasetError(f"--camera {text} is not name=key", hint="write, for example, primary=obs/agentview_image")
    return match[1], match[2]
