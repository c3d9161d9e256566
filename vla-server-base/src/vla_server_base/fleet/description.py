"""What a model's replica says of its policy to the servers that have it answer."""

import dataclasses
import hashlib
from dataclasses import dataclass

import msgspec

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.contract import PolicySpec

# They say where a replica runs and by what, not what it answers: a rolling update may change them.
_NOT_THE_MODEL = ("platform", "device", "details")
_OF_THE_DETAILS = ("checkpoint_hash", "statistics_hash")


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """A policy without its parameters, and whether it prefetches."""

    adapter: VLAModelAdapter
    fingerprint: str
    prefetches: bool


def describe(adapter: VLAModelAdapter) -> ModelDescription:
    """Return what a server has to know of a loaded policy."""
    return ModelDescription(
        adapter=adapter.without_parameters(),
        fingerprint=fingerprint(adapter.spec),
        prefetches=type(adapter).prefetch is not VLAModelAdapter.prefetch,
    )


def fingerprint(spec: PolicySpec) -> str:
    """Return what two replicas have in common whose answers are the same: the model, its weights, its statistics."""
    content = {
        field.name: getattr(spec, field.name) for field in dataclasses.fields(spec) if field.name not in _NOT_THE_MODEL
    }
    content["details"] = {name: spec.details.get(name) for name in _OF_THE_DETAILS}
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()
