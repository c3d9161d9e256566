"""The models that a server holds: which one serves, which are loaded beside it, and which are given up."""

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicyRequest, PolicySpec
from vla_server_base.engine.batches import Prediction
from vla_server_base.engine.contract_differences import contract_differences
from vla_server_base.engine.engine import Engine
from vla_server_base.engine.engines import Engines
from vla_server_base.errors import ContractDiffers, Forbidden, ModelConflict, NotFound, Unavailable, VLAError
from vla_server_base.models.held_model import HeldModel, LoadOrder
from vla_server_base.models.memory import available_mb, check_memory, resident_mb
from vla_server_base.models.shadow import Shadow
from vla_server_base.models.sources import ModelSources
from vla_server_base.sessions.registry import Sessions

logger = logging.getLogger(__name__)

MAX_BROKEN = 8
"""Models that could not be loaded, of which it is still told why."""
_SWEEP_S = 1.0
_SEARCH_S = 0.3
"""How long a search for garbage takes, about."""
_POLL_S, _LONGEST_WAIT_S = 0.05, 10.0

MakeEngine = Callable[[str, str, Callable[[PolicySpec], None]], Engine]
"""Makes the engine of a checkpoint, of an id, and with a check of what it turns out to be."""


class Models:
    """All models by their id; the first one is loaded at start. All methods are called on the event loop.

    One model is loaded at a time. What a load does, and how it fails, changes nothing for the model that serves. One
    that no longer serves is kept for `config.keep_models_s`, and as long as it has sessions; then it is unloaded.
    """

    def __init__(
        self,
        engines: Engines,
        sessions: Sessions,
        config: ServerConfig,
        make_engine: MakeEngine | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.engines, self.sessions, self._config = engines, sessions, config
        self._make_engine, self._clock = make_engine, clock
        first = engines.serving
        self.held: dict[str, HeldModel] = {
            first.id: HeldModel(id=first.id, checkpoint=first.checkpoint, mode="serve", engine=first)
        }
        self._sources = ModelSources(config.model_sources, first.checkpoint)
        self._start_mb = resident_mb()
        self._closing: set[asyncio.Task[None]] = set()
        self._is_ending = False

    def of(self, model: str) -> HeldModel:
        """Return a model.

        Raises:
            NotFound: none of this id is held.
        """
        self.sweep()
        if model not in self.held:
            raise NotFound(f"there is no model '{model[:128]}'", hint="GET /models lists those that are held")
        return self.held[model]

    def load(self, order: LoadOrder) -> HeldModel:
        """Begin to load a model beside those that are held; returns at once.

        Raises:
            Forbidden: the server can load no other model, or not this one.
            RequestError: there is no such folder.
            ModelConflict: another one is being loaded, its id is used, or memory is short.
        """
        self.sweep()
        if self._make_engine is None:
            raise Forbidden("this server was made for one model", hint="start it again with the other one")
        source = self._sources.permitted(order.checkpoint)
        self._check_may_load()
        model = self._new_id(order)
        engine = self._make_engine(source, model, self._contract_check(order.allows_different_contract))
        held = HeldModel(id=model, checkpoint=order.checkpoint, mode=order.mode, engine=engine, keeps=order.keeps)
        self.held.pop(model, None)
        self.held[model] = held
        self.engines.by_id[model] = engine
        logger.info("model=%s checkpoint=%s mode=%s is being loaded", model, order.checkpoint, order.mode)
        engine.start()
        held.loading = asyncio.create_task(self._bring_up(held, engine, order))
        return held

    def serve(self, model: str, *, allows_different_contract: bool = False) -> HeldModel:
        """Have a model that is held take new sessions from now on; others stay on theirs.

        Raises:
            NotFound: it is not held.
            ModelConflict: it is not loaded.
            ContractDiffers: it is not what robots expect, and that is not allowed.
        """
        held, present = self.of(model), self.engines.serving
        if held.engine is None or held.is_loading or not held.engine.answers:
            raise ModelConflict(f"the model '{model}' is not ready", hint=f"GET /models/{model} says what it does")
        if held.engine is present:
            return held
        if present.answers and not allows_different_contract:
            _check_contract(present.spec, held.engine.spec)
        if held.shadow is not None:
            held.shadow.end()
        held.mode, held.left_at, held.reason = "serve", None, None
        self.engines.serving = held.engine
        for each in self.held.values():
            if each.engine is present:
                each.left_at = self._clock()
        self._follow_shadows()
        logger.info("model=%s serves in place of model=%s", model, present.id)
        return held

    def unload(self, model: str, *, force: bool = False) -> HeldModel:
        """Give up a model, also one that is being loaded; its memory is free once what it does now has ended.

        Raises:
            NotFound: it is not held.
            ModelConflict: it serves; or it is in use, and `force` is not set, which ends its sessions.
        """
        held = self.of(model)
        engine = held.engine
        if engine is self.engines.serving:
            raise ModelConflict(
                f"the model '{model}' serves", hint="have another one serve first (POST /models/{id}/serve)"
            )
        if engine is not None and not force and (num := self.sessions.num_on(engine) + engine.num_users):
            raise ModelConflict(
                f"{num} sessions and requests are on the model '{model}'",
                hint="wait until they have ended, or end them with ?force=true",
            )
        self._give_up(held)
        return held

    def sweep(self) -> None:
        """Unload what no longer serves, has no sessions and was kept long enough; forget the oldest broken ones."""
        self.sessions.forget_idle()
        broken = [held for held in self.held.values() if held.engine is None]
        for held in broken[:-MAX_BROKEN]:
            del self.held[held.id]
        for held in list(self.held.values()):
            engine, left_at = held.engine, held.left_at
            if engine is None or left_at is None or held.keeps or engine is self.engines.serving:
                continue
            is_in_use = self.sessions.num_on(engine) or engine.num_users
            if not is_in_use and self._clock() - left_at >= self._config.keep_models_s:
                logger.info("model=%s is unloaded: it has no sessions, and serves no more", held.id)
                self._give_up(held)

    async def watch(self) -> None:
        """Note what the first model takes; where more can come, sweep again and again, until cancelled."""
        first = next(iter(self.held.values()))
        with contextlib.suppress(VLAError):
            await self.engines.serving.loaded()
            first.memory_mb = _growth(self._start_mb)
        while self._make_engine is not None and self._config.models == "on":
            self.sweep()
            await asyncio.sleep(_SWEEP_S)

    async def close(self) -> None:
        """End all engines, after what they run now."""
        self._is_ending = True
        for held in self.held.values():
            if held.shadow is not None:
                held.shadow.end()
            if held.loading is not None:
                held.loading.cancel()
        engines = [held.engine for held in self.held.values() if held.engine is not None]
        await asyncio.gather(*(engine.close() for engine in engines), *self._closing, return_exceptions=True)

    def _check_may_load(self) -> None:
        if loading := [held.id for held in self.held.values() if held.is_loading] or [*self._ending_loads()]:
            raise ModelConflict(
                f"the model '{loading[0]}' is being loaded", hint="one is loaded at a time: wait for it, or DELETE it"
            )
        serving = self.engines.serving
        if serving.status.state == "loading":
            raise ModelConflict("the first model is still being loaded", hint="wait until GET /health is 200")
        check_memory(self.held[serving.id].memory_mb if serving.id in self.held else None, available_mb())

    def _ending_loads(self) -> list[str]:
        return [task.get_name() for task in self._closing if task.get_name().startswith("load:")]

    def _new_id(self, order: LoadOrder) -> str:
        if order.id is None:
            number, model = 1, order.checkpoint
            while model in self.held and self.held[model].engine is not None:
                number += 1
                model = f"{order.checkpoint}#{number}"
            return model
        if order.id in self.held and self.held[order.id].engine is not None:
            raise ModelConflict(f"the id '{order.id}' is used already", hint="choose another id, or leave it out")
        return order.id

    def _contract_check(self, allows_different: bool) -> Callable[[PolicySpec], None]:
        def check(spec: PolicySpec) -> None:
            serving = self.engines.serving
            if serving.answers and not allows_different:
                _check_contract(serving.spec, spec)

        return check

    async def _bring_up(self, held: HeldModel, engine: Engine, order: LoadOrder) -> None:
        """Wait until a model is warm, and do with it what was ordered."""
        before = resident_mb()
        try:
            await engine.loaded()
        except VLAError as error:
            if held.engine is engine:
                self._found_broken(held, engine.status.reason or error.as_sentence())
            return
        held.memory_mb = _growth(before)
        if held.engine is not engine or not engine.answers:
            return  # it was deleted meanwhile
        held.left_at = None
        if order.mode == "shadow":
            held.shadow = Shadow(engine, order.share, order.threshold)
            self._follow_shadows()
        elif order.mode == "serve":
            held.loading = None
            try:
                self.serve(held.id, allows_different_contract=order.allows_different_contract)
            except VLAError as error:
                held.reason = f"it does not serve: {error.as_sentence()}"
                logger.warning("model=%s %s", held.id, held.reason)

    def _found_broken(self, held: HeldModel, reason: str) -> None:
        """Note why a model cannot be loaded; another one may be loaded at once."""
        engine, held.engine, held.reason, held.loading = held.engine, None, reason, None
        self.engines.by_id.pop(held.id, None)
        if engine is not None:
            self._close_later(self._close(held, engine), f"broken:{held.id}")

    def _give_up(self, held: HeldModel) -> None:
        engine, held.engine = held.engine, None
        self.held.pop(held.id, None)
        if held.shadow is not None:
            held.shadow.end()
        if engine is None:
            return
        self._follow_shadows()
        self.engines.by_id.pop(held.id, None)
        self.sessions.end_all_on(engine)
        self._close_later(self._close(held, engine), f"{'load' * held.is_loading}:{held.id}")

    def _close_later(self, close: Coroutine[Any, Any, None], name: str) -> None:
        closing = asyncio.create_task(close, name=name)
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close(self, held: HeldModel, engine: Engine) -> None:
        await engine.close(_unloaded)
        if held.loading is not None:
            await asyncio.wait([held.loading])
        del engine
        await self._free_memory()

    async def _free_memory(self) -> None:
        """Find the garbage of a policy, while no robot is likely to ask: the search keeps all threads waiting.

        What is loaded was spared from this search, see `DeviceThread`; so it goes through everything.
        """
        give_up_at = self._clock() + _LONGEST_WAIT_S
        while not self.engines.serving.is_device_free_for(_SEARCH_S) and self._clock() < give_up_at:
            if self._is_ending:
                return
            await asyncio.sleep(_POLL_S)
        await asyncio.to_thread(_search_for_garbage)

    def _follow_shadows(self) -> None:
        """Have the engine that serves copy what it answers, if there is a shadow, and no other engine."""
        has_shadows = any(held.shadow is not None and held.mode == "shadow" for held in self.held.values())
        for engine in self.engines.by_id.values():
            engine.on_predicted = self._copy if has_shadows and engine is self.engines.serving else None

    def _copy(self, request: PolicyRequest, prediction: Prediction) -> None:
        for held in self.held.values():
            if held.shadow is not None and held.mode == "shadow":
                held.shadow.offer(self.engines.serving, request, prediction.chunks[0])


def _check_contract(present: PolicySpec, other: PolicySpec) -> None:
    if changes := contract_differences(present, other):
        raise ContractDiffers(
            f"robots that know the model that serves would find: {'; '.join(changes)}",
            hint="send allow_different_contract: true if all robots can do with it",
        )


def _growth(before_mb: float | None) -> float | None:
    now = resident_mb()
    return None if before_mb is None or now is None else max(0.0, round(now - before_mb, 1))


def _search_for_garbage() -> None:
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _unloaded() -> Unavailable:
    return Unavailable("this model is unloaded", hint="send again, for the model that serves now")
