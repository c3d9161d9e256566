"""What of a certificate holds on this machine, line by line."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from vla_server_base.commands.certificate import PolicyCertificate


@dataclass(frozen=True, kw_only=True)
class CertifiedLine:
    """One line; `holds` is None for what may differ between machines."""

    name: str
    holds: bool | None
    text: str

    def __str__(self) -> str:
        mark = {True: "ok  ", False: "FAIL", None: "    "}[self.holds]
        return f"{mark} {self.name:<12} {self.text}"


def checks(stated: PolicyCertificate, here: PolicyCertificate) -> Iterator[CertifiedLine]:
    """Compare a certificate with what was measured here."""
    yield from _hashes(stated, here)
    deviation = stated.outputs.deviation_of(here.outputs.array)
    yield CertifiedLine(
        name="outputs",
        holds=deviation <= stated.outputs.tolerance,
        text=f"{here.outputs.num} chunks differ by {deviation:.2g} at most, {stated.outputs.tolerance:g} allowed"
        if deviation
        else f"{here.outputs.num} chunks are the same bit for bit",
    )
    yield from own_checks(here)
    missing = {each.name for each in stated.deviations} - {each.name for each in here.deviations}
    for name in sorted(missing):
        yield CertifiedLine(
            name="recorded", holds=None, text=f"{name}: not measured here, its recordings are not installed"
        )
    for name in sorted(stated.versions.keys() | here.versions.keys()):
        old, new = stated.versions.get(name), here.versions.get(name)
        if old != new:
            yield CertifiedLine(name="version", holds=None, text=f"{name} {old} there, {new} here")
    for name, value in asdict(here.machine).items():
        old = getattr(stated.machine, name)
        if old != value:
            yield CertifiedLine(name="machine", holds=None, text=f"{name}: {old} there, {value} here")
    for where, times in (("there", stated.latency_ms), ("here", here.latency_ms)):
        yield CertifiedLine(name="latency", holds=None, text=f"p50 {times.p50:g} ms, p99 {times.p99:g} ms {where}")


def own_checks(here: PolicyCertificate) -> Iterator[CertifiedLine]:
    """Yield what has to hold on any machine by itself."""
    for each in here.deviations:
        text = f"{each.name}: {each.largest:.2g} at most, {each.tolerance:g} allowed"
        yield CertifiedLine(name="recorded", holds=each.is_within, text=text)
    batching = here.batching
    yield CertifiedLine(
        name="batch",
        holds=bool(np.isfinite(batching.largest_difference)) and batching.largest_difference <= batching.tolerance,
        text=f"of {batching.num}: the same bits as alone"
        if batching.is_bit_equal
        else f"of {batching.num}: {batching.largest_difference:.2g} from alone at most, {batching.tolerance:g} allowed",
    )
    text = "the same seed and step give the same bits" if here.repeats_bit_equal else "the same seed gives other bits"
    yield CertifiedLine(name="repeat", holds=here.repeats_bit_equal, text=text)


def _hashes(stated: PolicyCertificate, here: PolicyCertificate) -> Iterator[CertifiedLine]:
    for name, old in asdict(stated.hashes).items():
        new = getattr(here.hashes, name)
        text = (
            f"{(new or 'none')[:16]}, as certified"
            if old == new
            else f"{new or 'none'} here, {old or 'none'} certified"
        )
        yield CertifiedLine(name=name, holds=old == new, text=text)
