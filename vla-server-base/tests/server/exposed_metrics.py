"""What a live server's /metrics says."""

from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


def samples(url: str, headers: Mapping[str, str] | None = None) -> list[Sample]:
    """All that the server exposes now."""
    text = httpx.get(f"{url}/metrics", headers=headers, timeout=30).raise_for_status().text
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def value(url: str, name: str, **labels: str) -> float:
    """The sum of a metric's series that have these labels; 0 if there is none."""
    return sum(each.value for each in samples(url) if each.name == name and _has(each.labels, labels))


def _has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in wanted.items())
