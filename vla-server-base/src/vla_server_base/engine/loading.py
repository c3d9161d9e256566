"""Loading a policy on the device thread: retries while a hub does not answer, and what /health says meanwhile."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal

import numpy as np

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.contract import NormalizedChunks
from vla_server_base.errors import ModelOutOfReach, ModelUnavailable, Unavailable, VLAError

logger = logging.getLogger(__name__)

# A hub that does not answer is asked again after the first wait, then after twice as long, and so on.
_FIRST_RETRY_S, _LONGEST_RETRY_S = 1.0, 60.0


ModelState = Literal["loading", "loaded", "broken"]


@dataclass(frozen=True, kw_only=True)
class EngineStatus:
    """Whether the policy answers; `reason` says why it does not."""

    state: ModelState
    reason: str | None = None


LOADING = EngineStatus(state="loading", reason="the model is being loaded")
WARMING_UP = EngineStatus(
    state="loading", reason="the model is being warmed up: requests are answered, at first slowly"
)
LOADED = EngineStatus(state="loaded")


def model_unavailable(status: EngineStatus) -> ModelUnavailable:
    """Return the error that says why the policy does not answer."""
    hint = "wait until GET /health is 200" if status.state == "loading" else "see the server's log"
    return ModelUnavailable(status.reason or "the model is not loaded", hint=hint)


def shutting_down() -> Unavailable:
    """Return the error for a request that reaches a closed engine."""
    return Unavailable("the server is shutting down", hint="send again to another server, or once this one is back")


def load_with_retries(
    adapter: VLAModelAdapter,
    config: ServerConfig,
    model_id: str,
    *,
    report: Callable[[EngineStatus], None],
    closed_within: Callable[[float], bool],
) -> None:
    """Load the model; while it is out of reach, try again at growing intervals, and `report` the next try.

    `closed_within` waits for a number of seconds, and returns early if the engine is closed.

    Raises:
        ModelUnavailable: the model cannot be loaded, or not within `config.load_retry_s`.
    """
    deadline, wait_s = time.monotonic() + config.load_retry_s, _FIRST_RETRY_S
    while True:
        try:
            adapter.load_model(model_id, config.device, config.cache_dir)
            return
        except ModelOutOfReach as error:
            wait_s = min(wait_s, deadline - time.monotonic())
            if wait_s <= 0:
                raise
            logger.warning("model %s: %s; trying again in %.0f s", model_id, error.as_sentence(), wait_s)
            next_try = datetime.now(timezone.utc) + timedelta(seconds=wait_s)
            reason = f"{error.as_sentence()}; the next try is at {next_try:%H:%M:%S} UTC"
            report(EngineStatus(state="loading", reason=reason))
            if closed_within(wait_s):
                raise
        wait_s = min(2 * wait_s, _LONGEST_RETRY_S)


def broken_status(error: BaseException, model_id: str, failure: str = "the model could not be loaded") -> EngineStatus:
    """Log why the model does not answer, and return the status that says so, without internals."""
    if isinstance(error, VLAError):
        logger.error("model %s is not available: %s", model_id, error.as_sentence())
        return EngineStatus(state="broken", reason=error.as_sentence())
    logger.error("model %s: %s", model_id, failure, exc_info=error)
    if isinstance(error, MemoryError):
        return EngineStatus(state="broken", reason="there was not enough memory to load the model")
    return EngineStatus(state="broken", reason=f"{failure}; see the server's log")


def check_warm_up_outputs(outputs: Sequence[NormalizedChunks]) -> None:
    """Refuse a policy that answers plain inputs with numbers that are not finite.

    Raises:
        ModelUnavailable: it does.
    """
    if not all(np.isfinite(chunks).all() for chunks in outputs):
        raise ModelUnavailable(
            "the policy answered with numbers that are not finite, to a black image: its weights are damaged",
            hint="download or convert the checkpoint again",
        )
