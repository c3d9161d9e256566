"""How far a loaded Octo is from recorded outputs, for `certify`: the bundled policy's, and the reference's."""

from collections.abc import Iterator
from itertools import groupby

import msgspec
import numpy as np

from octo_service import parity
from octo_service.adapter import OctoSmallAdapter
from octo_service.checkpoints.hub import BUNDLED
from octo_service.commands.options.check import Check
from vla_server_base.commands.certificate import Deviation, RecordedOutputs, numbered_inputs

REFERENCE_SETS = ("tiny", "l1_map_tokenlearner", "discrete")
"""Sets of `octo-service check` that take seconds; the full ones take minutes."""
RECORDED_FILE = "recorded_outputs.json"


def deviations(adapter: OctoSmallAdapter) -> Iterator[Deviation]:
    """Yield the largest deviations; the reference's outputs come with the source, not with the installed package."""
    recorded = _recorded_of(adapter.model.checkpoint.params_hash)
    if recorded is not None:
        inputs = numbered_inputs(adapter, recorded.num)
        chunks = np.stack([np.asarray(adapter.predict([each])[0])[0] for each in inputs])
        yield Deviation(
            name="the bundled policy's recorded outputs",
            largest=recorded.deviation_of(chunks),
            tolerance=recorded.tolerance,
        )
    goldens = Check.goldens
    if (goldens / "octo").is_dir():
        comparisons = parity.compare_all(goldens, REFERENCE_SETS)
        for name, group in groupby(comparisons, key=lambda each: each.golden):
            worst = max(group, key=lambda each: each.max_error / (each.tolerance or 1e-12))
            yield Deviation(
                name=f"the reference, {name}, {worst.quantity}", largest=worst.max_error, tolerance=worst.tolerance
            )


def _recorded_of(params_hash: str) -> RecordedOutputs | None:
    """Return what was recorded of a bundled policy with these weights."""
    for file in sorted(BUNDLED.glob(f"*/{RECORDED_FILE}")):
        content = msgspec.json.decode(file.read_bytes())
        if content["params_hash"] == params_hash:
            return msgspec.convert(content["outputs"], RecordedOutputs)
    return None
