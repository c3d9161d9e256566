"""The recorded outputs of the reference: each set's model, cases and arrays.

`octo/` holds the released architecture at full size and a tiny checkpoint in its on-disk formats; `variants/` holds
checkpoints of other kinds, among them 1.0, ALOHA and discrete heads.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from octo_service.checkpoints.checkpoint import Checkpoint, load_checkpoint
from octo_service.model import OctoModel
from octo_service.model.architectures import ARCHITECTURES
from octo_service.parity.synthetic_weights import synthetic_parameters
from octo_service.preprocessing.text import TextTokenizer, TokenizerOptions


@dataclass(frozen=True, kw_only=True)
class GoldenSet:
    """One model and what the reference put out with it; `arrays` are keyed `case/quantity`."""

    name: str
    model: OctoModel
    cases: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    readout_tolerance: float
    action_tolerance: float


# Proven on the reference itself: the same goldens differ by a third of these between its own compilations.
FULL_SIZE = {"readout_tolerance": 2e-5, "action_tolerance": 1e-3}
TINY = {"readout_tolerance": 5e-5, "action_tolerance": 2e-3}
VARIANTS = (
    "aloha_l1",
    "diff_proprio_2wrist",
    "discrete",
    "discrete_map",
    "l1_map_tokenlearner",
    "mse_map_obs",
    "v1_0",
)


def golden_sets(folder: Path, tokenizer: TextTokenizer | None = None) -> dict[str, Callable[[], GoldenSet]]:
    """Return every set of the folder by name; each is loaded when called, the full-size ones take a GB or two.

    Without T5's own tokenizer its recorded ids are used.
    """
    chosen = tokenizer or recorded_tokenizer(folder)
    sets = {
        "octo-small-1.5": lambda: _full_size(folder, "small", chosen),
        "octo-base-1.5": lambda: _full_size(folder, "base", chosen),
        "tiny": lambda: _tiny(folder, chosen),
    }
    return sets | {name: lambda name=name: _variant(folder, name, chosen) for name in VARIANTS}


def recorded_tokenizer(folder: Path) -> TextTokenizer:
    """Make a tokenizer that knows the texts of the goldens, by the ids that the reference's gave them."""
    return TextTokenizer(recorded_texts(folder).__getitem__, TokenizerOptions())


def recorded_texts(folder: Path) -> dict[str, list[int]]:
    """Return the texts of the goldens with the ids that the reference's tokenizer gave them, but for the end."""
    known = {row["text"]: row["input_ids"] for row in _json(folder / "octo" / "golden_tokens.json")["rows"]}
    small_cases, small_arrays = _small_arrays(folder)
    recorded = [(small_cases, small_arrays), _base_arrays(folder)]
    for name in VARIANTS:
        place = folder / "variants" / name
        recorded.append((_json(place / "cases.json")["cases"], np.load(place / "golden.npz")))
    for cases, arrays in recorded:
        for case, spec in cases.items():
            known |= dict(zip(spec["task"].get("texts", []), arrays[f"{case}/input_ids"], strict=False))
    return {text: [int(token) for token in ids if token][:-1] for text, ids in known.items()}


def tiny_model(folder: Path, form: str = "tiny_ckpt") -> OctoModel:
    """Load the tiny checkpoint, in the reference's form (`tiny_ckpt`) or orbax' newer one (`tiny_ckpt_ocdbt`)."""
    return OctoModel(load_checkpoint(folder / "octo" / form), recorded_tokenizer(folder))


def _tiny(folder: Path, tokenizer: TextTokenizer) -> GoldenSet:
    folder = folder / "octo"
    files = (folder / "tiny_ckpt", folder / "golden_tiny_cases.json", folder / "golden_tiny.npz")
    return _from_files("tiny", tokenizer, *files)


def _variant(folder: Path, name: str, tokenizer: TextTokenizer) -> GoldenSet:
    folder = folder / "variants" / name
    return _from_files(name, tokenizer, folder / "ckpt", folder / "cases.json", folder / "golden.npz")


def _from_files(name: str, tokenizer: TextTokenizer, checkpoint: Path, cases: Path, arrays: Path) -> GoldenSet:
    model = OctoModel(load_checkpoint(checkpoint), tokenizer)
    return GoldenSet(name=name, model=model, cases=_json(cases)["cases"], arrays=np.load(arrays), **TINY)


def _full_size(folder: Path, size: str, tokenizer: TextTokenizer) -> GoldenSet:
    tree = _json(folder / "octo" / f"param_tree_{size}.json")["params"]
    statistics = _json(folder / "octo" / "sample_dataset_statistics.json")
    checkpoint = Checkpoint(
        config=_json(folder / "octo" / f"config_octo_{size}_1.5_reconstructed.json"),
        params=synthetic_parameters({path: tuple(leaf["shape"]) for path, leaf in tree.items()}),
        dataset_statistics=statistics,
        example_batch=ARCHITECTURES["octo-small-1.5"].example_batch(),
        step=0,
        params_hash="synthetic",
        statistics_hash="synthetic",
    )
    cases, arrays = _small_arrays(folder) if size == "small" else _base_arrays(folder)
    model = OctoModel(checkpoint, tokenizer)
    return GoldenSet(name=f"octo-{size}-1.5", model=model, cases=cases, arrays=arrays, **FULL_SIZE)


def _small_arrays(folder: Path) -> tuple[Mapping[str, Any], dict[str, np.ndarray]]:
    folder = folder / "octo" / "golden_small"
    cases = _json(folder / "cases.json")["cases"]
    # Named as in the variants; "attention_mask" there is the text's, not the transformer's.
    names = {
        "actions_normalized": "actions",
        "actions_bridge": "actions_unnorm",
        "attention_mask_lang": "attention_mask",
    }
    arrays: dict[str, np.ndarray] = {}
    for case, spec in cases.items():
        spec["stats"] = {"dataset": "bridge_dataset"}
        recorded = np.load(folder / f"{case}.npz")
        arrays |= {f"{case}/{names.get(key, key)}": recorded[key] for key in recorded.files}
    return cases, arrays


def _base_arrays(folder: Path) -> tuple[Mapping[str, Any], Mapping[str, np.ndarray]]:
    folder = folder / "variants" / "full_base"
    return _json(folder / "cases.json")["cases"], np.load(folder / "golden.npz")


def _json(path: Path) -> Any:
    return json.loads(path.read_text())
