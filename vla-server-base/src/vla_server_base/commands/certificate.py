"""A certificate: what a policy answers on this machine, with which weights and code, and how it was measured."""

import base64
import hashlib
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.contract import PolicyInput, PolicySpec
from vla_server_base.source_code import SourceCode
from vla_server_base.testing.policy_inputs import a_window, preprocessed, tasks

FORM = 1
"""Of the file; another one cannot be verified."""
TOLERANCE = 1e-3
"""How far numbers of a chunk may be from those of another machine or batch, which round sums differently."""


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far a policy is from recorded outputs at most, and how far it may be."""

    name: str
    largest: float
    tolerance: float

    @property
    def is_within(self) -> bool:
        """Whether it is at most as far as it may be; NaN is not."""
        return self.largest <= self.tolerance


@dataclass(frozen=True, kw_only=True)
class Hashes:
    """What has to be the same on a second machine; None where a policy does not say."""

    weights: str | None
    statistics: str | None
    code: str
    inputs: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """On what it was measured."""

    processor: str
    cores: int | None
    system: str
    platform: str
    device: str


@dataclass(frozen=True, kw_only=True)
class Batching:
    """Chunks of several requests in one batch against those of each alone."""

    num: int
    largest_difference: float
    is_bit_equal: bool
    tolerance: float = TOLERANCE


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of predictions, one after the other: preprocessing and the device."""

    num: int
    p50: float
    p99: float


@dataclass(frozen=True, kw_only=True)
class RecordedOutputs:
    """Chunks as `predict` returned them, of inputs that follow from their number; arrays as base64."""

    num: int
    dtype: str
    shape: tuple[int, ...]
    data: str
    tolerance: float = TOLERANCE

    @property
    def array(self) -> np.ndarray:
        """The chunks, one after the other."""
        return np.frombuffer(base64.b64decode(self.data), self.dtype).reshape(self.shape)

    def deviation_of(self, chunks: np.ndarray) -> float:
        """Return how far other chunks of the same inputs are at most; infinity if they have another shape."""
        recorded = self.array
        return float(np.abs(chunks - recorded).max()) if chunks.shape == recorded.shape else float("inf")


@dataclass(frozen=True, kw_only=True)
class PolicyCertificate:
    """All that was measured; docs/certificate.md describes the fields."""

    form: int = FORM
    command: str
    made: str
    model: str
    settings: Mapping[str, Any]
    hashes: Hashes
    versions: Mapping[str, str]
    machine: Machine
    deviations: tuple[Deviation, ...]
    batching: Batching
    repeats_bit_equal: bool
    latency_ms: Latency
    outputs: RecordedOutputs


def numbered_inputs(adapter: VLAModelAdapter, num: int) -> list[PolicyInput]:
    """Return inputs that follow from their number alone: noise images, every kind of task, windows of every length."""
    kinds, window = tasks(adapter), adapter.spec.window
    return [
        preprocessed(
            adapter,
            a_window(adapter, image_seed=number, num_seen=1 + number % window),
            seed=number,
            task=kinds[number % len(kinds)],
        )
        for number in range(num)
    ]


def hash_of_inputs(inputs: Iterable[PolicyInput]) -> str:
    """Return a hash of what the policy is given: it tells another preprocessing from another policy."""
    digest = hashlib.sha256()
    for each in inputs:
        leaves = [*_leaves(each.observation, "observation."), *_leaves(each.task, "task.")]
        for name, array in sorted(leaves, key=lambda leaf: leaf[0]):
            digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
            digest.update(repr(array.tolist()).encode() if array.dtype == object else array.tobytes())
    return digest.hexdigest()


def outputs_of(chunks: np.ndarray) -> RecordedOutputs:
    """Return chunks as a file has them."""
    little = chunks.astype(chunks.dtype.newbyteorder("<"))
    return RecordedOutputs(
        num=len(chunks),
        dtype=little.dtype.str,
        shape=little.shape,
        data=base64.b64encode(little.tobytes()).decode(),
    )


@dataclass(kw_only=True)
class NumberedPredictions:
    """What predictions on numbered inputs show."""

    adapter: VLAModelAdapter
    num: int
    inputs: list[PolicyInput] = field(init=False)
    chunks: np.ndarray = field(init=False)
    """Of each input alone."""

    def __post_init__(self) -> None:
        self.inputs = numbered_inputs(self.adapter, self.num)
        self.chunks = self._alone()

    def batching(self) -> Batching:
        """Compare one batch of all inputs with each alone."""
        batch = np.stack([np.asarray(chunks)[0] for chunks in self.adapter.predict(self.inputs)])
        return Batching(
            num=self.num,
            largest_difference=float(np.abs(batch - self.chunks).max()),
            is_bit_equal=np.array_equal(batch, self.chunks),
        )

    def repeats_bit_equal(self) -> bool:
        """Whether the same seeds and steps give the same bits again."""
        return np.array_equal(self._alone(), self.chunks)

    def latency(self, num: int) -> Latency:
        """Time predictions from the images on."""
        times = []
        for number in range(num):
            # New images each time, as a robot has: what a policy keeps of earlier ones does not help.
            window = a_window(self.adapter, image_seed=self.num + number, num_seen=self.adapter.spec.window)
            started = time.perf_counter()
            self.adapter.predict([preprocessed(self.adapter, window, seed=number)])
            times.append(1e3 * (time.perf_counter() - started))
        p50, p99 = np.percentile(times, (50, 99))
        return Latency(num=num, p50=round(float(p50), 3), p99=round(float(p99), 3))

    def _alone(self) -> np.ndarray:
        return np.stack([np.asarray(self.adapter.predict([each])[0])[0] for each in self.inputs])


def hashes_of(adapter: VLAModelAdapter, inputs: Sequence[PolicyInput]) -> Hashes:
    """Return what has to be the same on a second machine."""
    details = adapter.spec.details
    return Hashes(
        weights=details.get("checkpoint_hash"),
        statistics=details.get("statistics_hash"),
        code=SourceCode.of(adapter).sha256,
        inputs=hash_of_inputs(inputs),
    )


def machine_of(spec: PolicySpec, processor: str) -> Machine:
    """Return on what a policy runs."""
    return Machine(
        processor=processor,
        cores=os.cpu_count(),
        system=f"{platform.system()} {platform.machine()}",
        platform=spec.platform,
        device=spec.device,
    )


def _leaves(arrays: Mapping[str, Any], prefix: str) -> list[tuple[str, np.ndarray]]:
    leaves = []
    for name, value in arrays.items():
        if isinstance(value, Mapping):
            leaves += _leaves(value, f"{prefix}{name}.")
        else:
            leaves.append((f"{prefix}{name}", np.asarray(value)))
    return leaves
