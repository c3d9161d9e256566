"""What a store holds of a session: what its token holds, and what else another server needs to go on."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from vla_server_base.contract import Action
from vla_server_base.engine.engine import Engine
from vla_server_base.sessions.content import VERSION, progress_content, progress_of, to_array
from vla_server_base.sessions.progress import SessionProgress
from vla_server_base.sessions.requests import StepResult
from vla_server_base.sessions.settings import SessionSettings

_OF_THE_REQUEST = {"notes", "unknown_words", "token"}
_RESULT_FIELDS = tuple(
    each.name for each in dataclasses.fields(StepResult) if each.name not in {"action", "spec"} | _OF_THE_REQUEST
)


@dataclass(frozen=True, kw_only=True)
class SharedState:
    """A session after a step, or after its episode began.

    `result` is what the last step was answered with: the same request again gets it, at any server. It is None where
    the step failed, and is computed again.
    """

    settings: SessionSettings
    defaults: SessionSettings
    progress: SessionProgress
    client: str
    protocol: str
    result: StepResult | None = None

    def content(self, model: str) -> dict[str, Any]:
        """Return it as a store holds it; arrays are not copied. `model` is the name of its model and checkpoint."""
        return {
            "version": VERSION,
            "model": model,
            "settings": msgspec.to_builtins(self.settings),
            "defaults": msgspec.to_builtins(self.defaults),
            "progress": progress_content(self.progress),
            "client": self.client,
            "protocol": self.protocol,
            "result": None if self.result is None else _result_content(self.result),
        }


def state_of(content: Mapping[str, Any], engine: Engine) -> SharedState:
    """Return the state of `SharedState.content`, of a session on an engine.

    Raises:
        UnreadableContent: its chunks are not such as the policy's.
    """
    settings = msgspec.convert(content["settings"], SessionSettings)
    return SharedState(
        settings=settings,
        defaults=msgspec.convert(content["defaults"], SessionSettings),
        progress=progress_of(content["progress"], engine.spec, settings),
        client=content["client"],
        protocol=content["protocol"],
        result=None if content["result"] is None else _result_of(content["result"], engine),
    )


def _result_content(result: StepResult) -> dict[str, Any]:
    fields = {name: getattr(result, name) for name in _RESULT_FIELDS}
    action = {each.name: getattr(result.action, each.name) for each in dataclasses.fields(result.action)}
    return {**fields, "action": action}


def _result_of(content: Mapping[str, Any], engine: Engine) -> StepResult:
    action, fields = content["action"], {name: content[name] for name in _RESULT_FIELDS}
    return StepResult(
        action=Action(
            action=to_array(action["action"]),
            action_names=tuple(action["action_names"]),
            action_units=tuple(action["action_units"]),
            actions=to_array(action["actions"]),
        ),
        spec=engine.spec,
        **fields,
    )
