"""The reference's recorded actions, asked of a live server: pictures as PNG, `history`, `seed` and `dataset`.

What a request cannot say is left out: several rows or samples of one key's noise, `argmax` and `temperature`.
"""

import base64
import io
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from recorded_texts import tokenizer_json

from octo_service.adapter import OctoSmallAdapter
from octo_service.checkpoints.saving import save_checkpoint
from octo_service.config import OctoConfig
from octo_service.model.heads import ContinuousHead, DiffusionHead
from octo_service.parity.goldens import GoldenSet, golden_sets, recorded_texts
from octo_service.parity.inputs import build_inputs
from octo_service.parity.measures import largest, spread
from octo_service.preprocessing.dataset_statistics import statistics_of
from octo_service.preprocessing.statistics import action_statistics, un_normalize
from vla_server_base.config import ServerConfig
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving

# How many of each set's recorded rows are asked for: a set of which silently less was would otherwise pass.
NUM_ASKED = {
    "octo-small-1.5": 9,
    "octo-base-1.5": 2,
    "tiny": 7,
    "aloha_l1": 5,
    "diff_proprio_2wrist": 3,
    "discrete": 1,
    "discrete_map": 1,
    "l1_map_tokenlearner": 3,
    "mse_map_obs": 4,
    "v1_0": 4,
}
FEWER = "bridge_dataset_first_5"
Asked = tuple[str, int, Mapping[str, Any]]


@pytest.mark.parametrize("name", NUM_ASKED)
def test_recorded_actions_come_out_of_a_server(name: str, goldens: Path, tmp_path: Path):
    golden = golden_sets(goldens)[name]()
    asked = [each for each in rows_of(golden) if can_be_asked(golden, each)]
    model, vocabulary = tmp_path / "model", tmp_path / "tokenizer.json"
    save_checkpoint(model, with_fewer_dimensions(golden), "safetensors")
    vocabulary.write_text(tokenizer_json(recorded_texts(goldens)))
    server = ServerConfig(cache_dir=tmp_path / "cache", device="cpu", scene_workers=1, renderer="raycast")
    for window in sorted({each[2]["window"] for each in asked}):
        adapter = OctoSmallAdapter(OctoConfig(tokenizer=vocabulary, window=window))
        with serving(create_vla_app(adapter, server, model_id=str(model))) as url:
            for case, row, said in asked:
                if said["window"] == window:
                    found = answer(url, said["body"])
                    error = largest((found - said["expected"]) / said["unit"])
                    assert error <= golden.action_tolerance, f"{case}, row {row}: {error}"
    assert len(asked) == NUM_ASKED[name]


def with_fewer_dimensions(golden: GoldenSet) -> Any:
    """Return the set's checkpoint with one more dataset, of the first five dimensions of another."""
    checkpoint = golden.model.checkpoint
    statistics = checkpoint.dataset_statistics
    if "bridge_dataset" in statistics:
        action = statistics["bridge_dataset"]["action"]
        fewer = {"action": {name: np.asarray(values)[:5] for name, values in action.items()}}
        statistics = {**statistics, FEWER: fewer}
    return replace(checkpoint, dataset_statistics=statistics)


def rows_of(golden: GoldenSet) -> Iterator[Asked]:
    for case, spec in golden.cases.items():
        observation, task = build_inputs(spec)
        mask = np.asarray(spec.get("explicit_timestep_pad_mask", observation.get("timestep_pad_mask")))
        for row in range(len(mask)):
            yield case, row, one_row(golden, case, spec, observation, task, mask[row], row)


def can_be_asked(golden: GoldenSet, asked: Asked) -> bool:
    case, _, said = asked
    head, spec = golden.model.head, golden.cases[case]
    draws_nothing = isinstance(head, ContinuousHead)
    kwargs = set(spec.get("kwargs") or ()) - ({"argmax", "temperature"} if isinstance(head, DiffusionHead) else set())
    steps = [said["body"], *said["body"]["history"]]
    is_shown = any(first_camera(golden) in step["images"] for step in steps)  # a window without it is refused
    return is_shown and (draws_nothing or (said["num_rows"] == 1 and not kwargs))


def first_camera(golden: GoldenSet) -> str:
    names = golden.model.octo.observation_names(golden.model.example_batch["observation"])
    return next(name.removeprefix("image_") for name in names if name.startswith("image_"))


def one_row(
    golden: GoldenSet,
    case: str,
    spec: Mapping[str, Any],
    observation: Mapping[str, Any],
    task: Mapping[str, Any],
    mask: np.ndarray,
    row: int,
) -> dict[str, Any]:
    """Return a request for one row of a case, and the recorded actions in its units."""
    statistics, told = golden.model.dataset_statistics, spec.get("stats") or {}
    dataset = told.get("dataset") or ("bridge_dataset" if "bridge_dataset" in statistics else None)
    of_dataset = statistics_of(statistics, dataset)
    steps = [step_of(observation, of_dataset, row, step) for step in np.flatnonzero(mask).tolist()]
    goals = {name.removeprefix("image_"): png(images[row]) for name, images in (task.get("goals") or {}).items()}
    instruction = task["texts"][row] if "texts" in task else ""
    body = {"instruction": instruction, "goal_images": goals, **steps[-1], "history": steps[:-1]}
    if "first_dims" in told:
        dataset, of_dataset = FEWER, with_fewer_dimensions(golden).dataset_statistics[FEWER]
    action = of_dataset["action"]
    recorded = golden.arrays.get(f"{case}/actions_unnorm")
    if recorded is None:
        recorded = golden.arrays[f"{case}/actions"]
        recorded = recorded if told else np.asarray(un_normalize(recorded, action_statistics(action)))
    recorded = recorded[0] if "sample_shape" in (spec.get("kwargs") or {}) else recorded
    return {
        "window": len(mask),
        "num_rows": len(recorded),
        "body": {**body, "dataset": dataset, "seed": spec["seed"] or 0},
        "expected": recorded[row],
        "unit": spread(action),
    }


def step_of(observation: Mapping[str, Any], of_dataset: Mapping[str, Any], row: int, step: int) -> dict[str, Any]:
    """Return what a request shows of one timestep: what is masked in it is left out."""
    masks = observation.get("pad_mask_dict", {})
    there = {name for name in observation if name not in masks or masks[name][row, step]}
    seen = {name.removeprefix("image_"): name for name in there if name.startswith("image_")}
    shown: dict[str, Any] = {"images": {camera: png(observation[name][row, step]) for camera, name in seen.items()}}
    if "proprio" in there:
        own = of_dataset["proprio"]
        raw = observation["proprio"][row, step] * (np.float64(own["std"]) + 1e-8) + own["mean"]
        shown["proprio"] = raw.tolist()
    return shown


def answer(url: str, body: Mapping[str, Any]) -> np.ndarray:
    deadline = time.monotonic() + 300
    while (reply := httpx.post(f"{url}/predict", json=body, timeout=300)).status_code == 503:
        assert time.monotonic() < deadline, reply.text
        time.sleep(0.2)
    assert reply.status_code == 200, reply.text
    return np.array(reply.json()["actions"])


def png(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
