"""`lerobot-service check`: what a checkpoint takes and gives, and whether it is served as LeRobot runs it."""

import sys
import time
from collections.abc import Iterator

import numpy as np

from lerobot_service.adapter import LeRobotAdapter
from lerobot_service.commands.options.check import CheckCheckpoint
from lerobot_service.config import LeRobotConfig
from vla_server_base.commands.certificate import Deviation
from vla_server_base.commands.program import PolicyProgram
from vla_server_base.commands.progress import phase
from vla_server_base.contract import Observation, PolicyInput, PolicySpec, Task, Window

TASK = "pick up the red cube"


def run(options: CheckCheckpoint, _program: PolicyProgram[LeRobotConfig]) -> None:
    """Print what the checkpoint takes and gives; exit 1 where its actions are not LeRobot's."""
    phase(f"loading {options.checkpoint}")
    adapter = LeRobotAdapter(options.config)
    adapter.load_model(options.checkpoint, options.server.device, options.server.cache_dir)
    for name, value in _described(adapter.spec):
        print(f"{name:<12} {value}")
    for note in adapter.spec.details["notes"]:
        print(f"{'note':<12} {note}")
    observation = _noise_observation(adapter.spec, options.seed)
    started = time.perf_counter()
    ours = _predict(adapter, observation, options.seed)
    print(f"{'prediction':<12} {1e3 * (time.perf_counter() - started):.0f} ms")
    if not _compare(adapter, observation, ours, options.seed):
        sys.exit(1)


def _described(spec: PolicySpec) -> Iterator[tuple[str, str]]:
    """Say what a policy takes and gives, by name."""
    details = spec.details
    yield "policy", f"{details['policy_type']}, {details['parameters'] / 1e6:.1f} million parameters, on {spec.device}"
    yield "versions", f"lerobot {details['lerobot']}, torch {details['torch']}"
    cameras = (
        f"{each.name} {each.width}x{each.height}{'' if each.required else ' (optional)'}" for each in spec.cameras
    )
    yield "cameras", ", ".join(cameras) or "none"
    state = f"{spec.proprio_dim} numbers: {', '.join(spec.proprio_names)}"
    yield "state", "none" if spec.proprio_dim is None else state
    yield "window", f"{spec.window} observations"
    yield "instruction", "required" if spec.takes_instruction else "not read"
    yield "actions", f"{spec.action_dim} numbers: {', '.join(spec.action_names)}"
    rate = "" if spec.control_hz is None else f", at {spec.control_hz:g} Hz"
    yield "chunk", f"{spec.horizon} actions, executed as {spec.execution}: {spec.execution_horizon} at a time{rate}"
    yield "RTC", "supported" if spec.supports_rtc else "not supported; aligned and blended are"


def _noise_observation(spec: PolicySpec, seed: int) -> Observation:
    random = np.random.default_rng(seed)
    images = {each.name: random.integers(0, 256, (each.height, each.width, 3), np.uint8) for each in spec.cameras}
    proprio = None if spec.proprio_dim is None else random.uniform(-1, 1, spec.proprio_dim).astype(np.float32)
    return Observation(images=images, proprio=proprio)


def _predict(adapter: LeRobotAdapter, observation: Observation, seed: int) -> np.ndarray:
    """Return the chunk that a robot would get whose first observation this is."""
    window = Window(
        observations=(observation,) * adapter.spec.window, timestep_pad_mask=np.ones(adapter.spec.window, bool)
    )
    arrays = adapter.preprocess_observation(window)
    task = adapter.preprocess_instruction(Task(instruction=TASK))
    return adapter.predict([PolicyInput(observation=arrays, task=task, seed=seed)])[0][0]


def _compare(adapter: LeRobotAdapter, observation: Observation, ours: np.ndarray, seed: int) -> bool:
    """Print whether the chunk is LeRobot's own to the last bit, which on a CPU it has to be."""
    difference, num_compared = _difference(adapter, observation, ours, seed)
    compared = f"{num_compared} actions of LeRobot's own {adapter.loaded.config.type}"
    if difference == 0:
        print(f"{'equality':<12} bit for bit: {compared}")
        return True
    print(f"{'equality':<12} differs by up to {difference:.2g} from {compared}")
    return adapter.loaded.device.type != "cpu"  # where LeRobot draws its noise on the GPU


def deviations(adapter: LeRobotAdapter) -> Iterator[Deviation]:
    """Yield how far a chunk is from LeRobot's own, for `certify`; on a GPU LeRobot draws other noise."""
    if adapter.loaded.device.type != "cpu":
        return
    observation = _noise_observation(adapter.spec, seed=0)
    difference, num_compared = _difference(adapter, observation, _predict(adapter, observation, seed=0), seed=0)
    yield Deviation(name=f"{num_compared} actions of LeRobot's own", largest=difference, tolerance=0.0)


def _difference(adapter: LeRobotAdapter, observation: Observation, ours: np.ndarray, seed: int) -> tuple[float, int]:
    """Return how far a chunk is from LeRobot's own, and how many actions were compared."""
    from lerobot_service.inference.lerobots_own import lerobots_own_actions

    theirs = lerobots_own_actions(adapter.loaded, observation, TASK, seed)
    return float(np.abs(ours[: len(theirs)] - theirs).max()), len(theirs)
