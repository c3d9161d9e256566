"""Precisions below float32: how far they are off, and that nothing else changes."""

from pathlib import Path

import numpy as np
import pytest

from octo_service import device
from octo_service.adapter import OctoSmallAdapter
from octo_service.config import OctoConfig
from octo_service.model import Precision
from vla_server_base.testing.policy_inputs import an_input


@pytest.fixture(scope="module")
def readouts(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, np.ndarray]:
    """What each precision reads out of the same window."""
    found = {}
    for precision in ("highest", "default", "bf16"):
        adapter = OctoSmallAdapter(OctoConfig(precision=precision))
        adapter.load_model("random://octo-tiny", "cpu", tmp_path_factory.mktemp("cache"))
        assert adapter.spec.details["precision"] == precision
        seen = an_input(adapter, num_seen=3)
        found[precision] = np.asarray(adapter._inference_cache.read_out(seen.observation, seen.task).tokens)
    return found


def test_a_cpu_has_one_float32(readouts: dict[Precision, np.ndarray]):
    np.testing.assert_array_equal(readouts["default"], readouts["highest"])


def test_bf16_is_near(readouts: dict[Precision, np.ndarray]):
    error = np.abs(readouts["bf16"] - readouts["highest"]).max()
    # Two decimal digits of numbers around 1, after two layers.
    assert 1e-4 < error < 0.1


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f", False),
        ("flags\t\t: fpu avx512f avx512_bf16", True),
        ("Features\t: fp asimd bf16 i8mm", True),
    ],
)
def test_a_processor_says_whether_it_multiplies_bfloat16(tmp_path: Path, flags: str, expected: bool):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n")
    assert device.multiplies_bfloat16(tmp_path / "cpuinfo") is expected


def test_bf16_where_it_only_costs_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    OctoSmallAdapter(OctoConfig(precision="bf16")).load_model("random://octo-tiny", "cpu", tmp_path)
    assert ("OCTO_PRECISION=highest is faster" in caplog.text) is (not device.multiplies_bfloat16())
