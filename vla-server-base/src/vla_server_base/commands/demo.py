"""`demo`: a server whose policy follows an instruction in a scene, and then stays up to be looked at."""

import asyncio
import base64
import os
import signal
import statistics
import sys
import time
import webbrowser
from collections.abc import Mapping
from typing import Any

from vla_server_base.commands.options import Demo
from vla_server_base.commands.predict import local_server, model_and_meaning, scene_xml, write
from vla_server_base.commands.program import Config, PolicyProgram
from vla_server_base.episodes import PolicyServer
from vla_server_base.schemas.success import success_to_body
from vla_server_base.tabletop.paraphrases import task_of_instruction
from vla_server_base.tabletop.tables import table_of

_LOOK_S = 0.2


def run(options: Demo[Config], program: PolicyProgram[Config]) -> None:
    """Print how the episode went; with ONCE=1, or without a terminal, end there."""
    body = _body(options)
    options.out.mkdir(parents=True, exist_ok=True)
    with local_server(program, options.server, options.config) as url:
        _play(url, body, options)
        if os.environ.get("ONCE") == "1" or not sys.stdin.isatty():
            return
        if options.server.console == "on":
            _show(url, body)
        _stay(url)


def _show(url: str, body: Mapping[str, Any]) -> None:
    """Begin the episode again, at the simulation's own clock, and open the console that shows it."""
    seen = {"poses": True, "preview": True, "frames": "jpeg", "record": ["webp", "state_log"]}
    reply = asyncio.run(_begin_episode(url, {**body, **seen}))
    address = f"{url}/#episode={reply['episode_id']}"
    print(f"console      {address}", flush=True)
    # Without a display, webbrowser would take over the terminal with a text browser.
    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)


def _stay(url: str) -> None:
    """Serve until somebody ends it."""
    ended = False

    def end(*_signal: object) -> None:
        nonlocal ended
        ended = True

    # Not KeyboardInterrupt, which is lost if it comes during a destructor.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, end)
    print(f"\nserving at {url} - its API is at {url}/docs; Ctrl-C ends it", flush=True)
    while not ended:
        time.sleep(_LOOK_S)


def _body(options: Demo[Any]) -> dict[str, Any]:
    return {
        "instruction": options.instruction,
        "xml_string": scene_xml(options.scene),
        "success": _success(options.scene, options.instruction),
        "max_steps": options.max_steps,
        "record": ["webp"],
        "seed": options.seed,
    }


def _success(scene: str, instruction: str) -> list[dict[str, Any]]:
    """Return when a task of the tabletop suite is done, where the scene and the instruction are the suite's."""
    robot, _, name = scene.partition("/")
    task = task_of_instruction(instruction)
    return success_to_body(task.success(table_of(robot))) if task and name == "tabletop" else []


def _play(url: str, body: Mapping[str, Any], options: Demo[Any]) -> None:
    """Have an episode played, print how it went, and write its animation."""
    reply = asyncio.run(_execute(url, body))
    steps = reply["steps"]
    asked_ms = statistics.median(step["timing_ms"]["predict"] for step in steps)
    done = {True: "done", False: "not done", None: "whether it is done is not known"}[reply["success"]]
    animation = write(options.out / "episode.webp", base64.b64decode(reply["recordings"]["webp"]))
    print(f"model        {model_and_meaning(reply)}")
    print(f"instruction  {options.instruction}")
    print(f"episode      {done}: {len(steps)} actions, {reply['states'][-1]['time']:.1f} s of simulated time")
    print(f"animation    {animation}")
    print(f"took         {reply['duration_ms'] / 1e3:.1f} s, of which the policy {asked_ms:.0f} ms an action")


async def _execute(url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    async with PolicyServer(url, "human") as server:
        return await server.execute(body)


async def _begin_episode(url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    async with PolicyServer(url, "human") as server:
        return await server.begin_episode(body)
