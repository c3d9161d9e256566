"""Draws and steps mutated scenes in a pool, which must answer each one and never be lost.

`python tests/scenes/fuzz.py --scenes 100000 --seed 7` prints what came out. An input is a function of the seed
and its number: `--first 1234 --scenes 1` sends one again. One that breaks the pool is written down, so that it
can become a test.
"""

import argparse
import asyncio
import itertools
import random
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mutated_scenes import ROBOTS, mutated_scene
from plain_scene import assert_serves, children, running

from vla_server_base.errors import RequestError, SceneCrashed, SceneTimeout
from vla_server_base.scenes.bundle import scene_from_bundle
from vla_server_base.scenes.messages import (
    BodyPose,
    Bounds,
    ControlSettings,
    Measure,
    MeasureKind,
    RenderRequest,
    RolloutReply,
    RolloutRequest,
    Scene,
    SceneState,
    View,
)
from vla_server_base.scenes.pool import ScenePool

NUM_AT_ONCE = 2
SMALL = View(height=64, width=64)
EXTREMES = (0.0, 1.0, -1.0, 0.1, 1e-300, 1e-6, 3.2, 1e3, 1e10, -1e10, 1e300, -1e300)
KINDS: dict[MeasureKind, int] = {"height": 1, "distance": 2, "contact": 2, "joint": 1}


async def fuzz(pool: ScenePool, seed: int, numbers: Iterable[int]) -> Counter:
    """Send the inputs with these numbers; return how often each kind of answer came.

    Raises:
        AssertionError: an answer was none, or the pool no longer draws the plain scene; naming the input.
    """
    outcomes: Counter = Counter()
    left = iter(numbers)

    async def send_some() -> None:
        for number in left:
            try:
                await _Input(pool, seed, number, outcomes).send()
            except BaseException as error:
                scene = mutated_scene(random.Random(f"{seed}-{number}"))
                raise AssertionError(f"input {number} of seed {seed} broke the pool:\n{scene}") from error
            if number % 100 == 0:
                await assert_serves(pool)

    await asyncio.gather(*(send_some() for _ in range(NUM_AT_ONCE)))
    await assert_serves(pool)
    return outcomes


class _Input:
    """One scene, and what is asked of it."""

    def __init__(self, pool: ScenePool, seed: int, number: int, outcomes: Counter):
        self._pool, self._name, self._outcomes = pool, f"input {number} of seed {seed}", outcomes
        self._random = random.Random(f"{seed}-{number}")

    async def send(self) -> None:
        made_from, scene = mutated_scene(self._random)
        self._outcomes["scenes"] += 1
        if isinstance(scene, bytes):
            self._outcomes["zips"] += 1
            try:
                scene = scene_from_bundle(scene)
            except RequestError as error:
                self._refused("unpacked", error)
                return
        if not await self._draw(scene):
            return
        control = ControlSettings() if made_from in ROBOTS and self._random.random() < 0.8 else None
        reply = await self._step(scene, self._request(control))
        if reply is None and control is not None:
            reply = await self._step(scene, self._request(None))
        if reply is not None and self._random.random() < 0.5:
            await self._step(scene, self._request(control if reply.robot else None, reply))
            await self._step(scene, self._odd_request(reply))

    async def _draw(self, scene: Scene) -> bool:
        try:
            reply = await self._pool.render(scene, RenderRequest(view=SMALL))
        except RequestError as error:
            self._refused("drawn", error)
            return False
        assert reply.view.images["primary"].shape == (64, 64, 3)
        self._outcomes["drawn"] += 1
        return True

    async def _step(self, scene: Scene, request: RolloutRequest) -> RolloutReply | None:
        try:
            reply = await self._pool.roll_out(scene, request)
        except RequestError as error:
            self._refused("stepped", error)
            return None
        assert np.isfinite(reply.state.qpos).all()
        assert len(reply.steps) == len(request.actions)
        for poses in (reply.body_poses, *(step.body_poses for step in reply.steps)):
            assert (poses is not None) is request.poses
            assert poses is None or np.isfinite(poses.poses).all()
        self._outcomes["stepped"] += 1
        self._outcomes["with an arm"] += len(reply.steps) > 0
        return reply

    def _request(self, control: ControlSettings | None, before: RolloutReply | None = None) -> RolloutRequest:
        """Return a step from the scene's own state, or from one of the right sizes, or from where `before` ended."""
        source = self._random
        start, measures = SceneState(), ()
        if before is not None:
            start = before.end if source.random() < 0.3 else self._state(before)
            measures = tuple(self._measures(before))
        actions = np.zeros((0, 7))
        if control is not None:
            actions = np.array([[self._number(0.02) for _ in range(7)] for _ in range(source.choice((1, 2)))])
        return RolloutRequest(
            start=start,
            actions=actions,
            hold_s=0.1,
            control=control,
            clamp=source.random() < 0.1,
            measures=measures,
            poses=source.random() < 0.5,
            view=SMALL if source.random() < 0.3 else None,
        )

    def _odd_request(self, before: RolloutReply) -> RolloutRequest:
        """Return a request of parts that are each allowed, or nearly, and that no client would send together."""
        source = self._random
        names = [name for name in (*(before.names.joints if before.names else ()), "", "world", "nobody") if name]
        bounds = Bounds(
            workspace=source.choice((None, np.array([[self._number(1.0) for _ in range(3)] for _ in range(2)]))),
            max_joint_speed=source.choice((None, 0.0, 1e-300, 1e300)),
            max_contact_force_n=source.choice((0.0, 100.0, 1e300)),
        )
        state = SceneState(
            keyframe=source.choice((None, 0, -1, 7, 2**40, "home", "", "nobody")),
            qpos=source.choice((None, np.zeros(source.choice((0, 1, 1000))))),
            mocap_pos=source.choice((None, np.full((source.choice((0, 1, 3)), 3), self._number(1.0)))),
        )
        control = source.choice((None, ControlSettings()))
        num_actions = source.choice((0, 1, 3)) if control else 0
        return RolloutRequest(
            start=source.choice((before.end, self._state(before), state)),
            actions=np.array([[self._number(1.0) for _ in range(7)]] * num_actions).reshape(-1, 7),
            hold_s=source.choice((0.0, 1e-9, 0.01, 0.5)),
            robot=source.choice((None, "panda", "widowx", "nobody")),
            control=control,
            bounds=bounds,
            clamp=source.random() < 0.5,
            body_poses=self._body_poses(before),
            poses=source.random() < 0.5,
            measures=tuple(
                Measure(kind=kind, names=tuple(source.choice(names) for _ in range(how_many)))
                for kind, how_many in KINDS.items()
                if source.random() < 0.3
            ),
            view=View(
                cameras={
                    "primary": source.choice((None, "primary", "wrist", "", "nobody")),
                    "wrist": source.choice((None, "", "primary", "nobody")),
                },
                geom_groups=source.choice((None, None, (0,), (5,), (0, 1, 2, 3, 4, 5))),
                height=source.choice((1, 3, 64, 2048, 0, -1)),
                width=source.choice((1, 7, 64, 2**31)),
            ),
        )

    def _state(self, before: RolloutReply) -> SceneState:
        given: dict[str, Any] = {
            name: np.array([self._number(1.0) for _ in getattr(before.state, name)])
            for name in ("qpos", "qvel", "ctrl")
            if self._random.random() < 0.5
        }
        return SceneState(**given)

    def _body_poses(self, before: RolloutReply) -> tuple[BodyPose, ...]:
        source, known = self._random, before.names.bodies if before.names else ()
        return tuple(
            BodyPose(
                body=source.choice((*known, "", "nobody")),
                position=np.array([self._number(1.0) for _ in range(3)]),
                quaternion=source.choice((None, np.zeros(4), np.array([self._number(1.0) for _ in range(4)]))),
            )
            for _ in range(source.choice((0, 0, 1, 3)))
        )

    def _measures(self, before: RolloutReply) -> Iterator[Measure]:
        assert before.names is not None
        for kind, how_many in KINDS.items():
            known = before.names.joints if kind == "joint" else before.names.bodies
            names = [name for name in known if name]
            if names:
                yield Measure(kind=kind, names=tuple(self._random.choice(names) for _ in range(how_many)))

    def _number(self, spread: float) -> float:
        return self._random.choice(EXTREMES) if self._random.random() < 0.1 else self._random.gauss(0, spread)

    def _refused(self, instead_of: str, error: RequestError) -> None:
        self._outcomes[f"not {instead_of}: {error.code}"] += 1
        if isinstance(error, SceneCrashed | SceneTimeout):
            print(f"{self._name} not {instead_of}: {error.code}: {error.message[:200]}", flush=True)


def _told(numbers: Iterable[int], every: int) -> Iterator[int]:
    started = time.monotonic()
    for count, number in enumerate(numbers):
        if count and count % every == 0:
            print(f"{count} scenes in {time.monotonic() - started:.0f} s", flush=True)
        yield number


async def main(arguments: argparse.Namespace) -> None:
    before, started = children(), time.monotonic()
    numbers = itertools.islice(itertools.count(arguments.first), arguments.scenes)
    if arguments.scenes is None:
        deadline = started + arguments.seconds
        numbers = itertools.takewhile(lambda _: time.monotonic() < deadline, numbers)
    async with running(renderer=arguments.renderer, scene_workers=NUM_AT_ONCE, scene_timeout_s=5) as pool:
        print(f"renderer {pool.renderer}, seed {arguments.seed}", flush=True)
        try:
            outcomes = await fuzz(pool, arguments.seed, _told(numbers, every=5_000))
        except AssertionError as error:
            Path("fuzz-finding.txt").write_text("".join(traceback.format_exception(error)))
            raise
    for code, count in outcomes.most_common():
        print(f"{count:8d} {code}")
    print(f"{time.monotonic() - started:.0f} s")
    assert children() == before


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long, unless --scenes says how many")
    parser.add_argument("--scenes", type=int, default=None)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--renderer", choices=("auto", "egl", "osmesa", "raycast"), default="auto")
    asyncio.run(main(parser.parse_args()))
