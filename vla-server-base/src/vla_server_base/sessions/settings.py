"""How a session executes the policy's chunks; fixed for an episode."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from vla_server_base.contract import PolicySpec
from vla_server_base.errors import RequestError, UnknownName
from vla_server_base.execution import Execution
from vla_server_base.sessions.action_chunking import ActionPlan, RecedingHorizon, TemporalEnsemble
from vla_server_base.sessions.continued_chunk import CONTINUED


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """How a session acts.

    `receding` asks the policy at every step, `chunk` after `execution_horizon` actions of each chunk, and `ensemble`
    averages the last chunks with `ensemble_weight` (`TemporalEnsemble`). The other three ask the policy at every
    request and continue the last chunk (`continued_chunk`): all begin with its rows that are executed until the answer
    arrives. `aligned` then takes the new chunk's; `blended` goes over to them until row `execution_horizon`; and with
    `rtc` the policy samples a chunk that fits the old one until there. `control_hz` says how many steps a measured
    latency is. A `dataset` or `action_format` of None becomes the policy's default when the session begins.
    """

    execution: Execution = "receding"
    execution_horizon: int = 1
    ensemble_weight: float = 0.0
    control_hz: float | None = None
    dataset: str | None = None
    action_format: str | None = None
    reset_on_new_task: bool = True


def default_settings(spec: PolicySpec, *, reset_on_new_task: bool, executes_chunks: bool) -> SessionSettings:
    """Return the settings of sessions that say nothing else: chunks are executed as the policy's `spec` says.

    A client that `executes_chunks` itself gets a new chunk for each of its requests.
    """
    settings = SessionSettings(reset_on_new_task=reset_on_new_task)
    if not executes_chunks:
        settings = replace(
            settings,
            execution=spec.execution,
            execution_horizon=spec.execution_horizon,
            ensemble_weight=spec.ensemble_weight,
        )
    return checked_settings(spec, settings, {})


def checked_settings(spec: PolicySpec, settings: SessionSettings, changes: Mapping[str, Any]) -> SessionSettings:
    """Return `settings` with `changes`, and with the policy's default dataset and format if they name none.

    Raises:
        RequestError: `execution_horizon` is longer than the policy's chunks, or the policy cannot do `rtc`.
        UnknownName: the policy does not have the dataset or format.
    """
    if changes.get("execution", settings.execution) != settings.execution:
        changes = {"execution_horizon": _default_horizon(spec, changes["execution"]), **changes}
    settings = replace(settings, **changes)
    if settings.execution == "rtc" and not spec.supports_rtc:
        raise RequestError(
            f"execution: rtc is not possible with {spec.model}, which cannot be guided towards its last chunk",
            hint="choose aligned or blended, which continue the last chunk of any policy",
        )
    if not 1 <= settings.execution_horizon <= spec.horizon:
        raise RequestError(
            f"execution_horizon: expected 1 to {spec.horizon}, the length of the policy's chunks, got"
            f" {settings.execution_horizon}",
            hint=f"send an execution_horizon of at most {spec.horizon}",
        )
    dataset = _known("dataset", settings.dataset, spec.datasets, spec.default_dataset)
    formats = spec.actions[dataset].formats
    # A format that is only another dataset's default was not asked for.
    is_kept = "action_format" in changes or settings.action_format in formats
    action_format = _known("action_format", settings.action_format if is_kept else None, formats, formats[0])
    return replace(settings, dataset=dataset, action_format=action_format)


def differences(present: SessionSettings, asked: SessionSettings) -> list[str]:
    """Return where settings differ, as `execution 'chunk' instead of 'receding'`."""
    pairs = [(each.name, getattr(present, each.name), getattr(asked, each.name)) for each in fields(present)]
    return [f"{name} {new!r} instead of {old!r}" for name, old, new in pairs if new != old]


def new_plan(spec: PolicySpec, settings: SessionSettings) -> ActionPlan:
    """Return an empty plan that executes chunks as `settings` say."""
    if settings.execution == "ensemble":
        return TemporalEnsemble(spec.horizon, settings.ensemble_weight)
    return RecedingHorizon(settings.execution_horizon if settings.execution == "chunk" else 1)


def _default_horizon(spec: PolicySpec, execution: Execution) -> int:
    if execution in CONTINUED and execution != spec.execution:
        return max(1, spec.horizon // 2)
    return spec.execution_horizon


def _known(what: str, name: str | None, known: tuple[str, ...], default: str | None) -> str | None:
    if name is not None and name not in known:
        raise UnknownName(what, name, known)
    return name or default
