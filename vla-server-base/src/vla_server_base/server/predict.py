"""POST /predict: from the parsed request to the reply, by way of the scene's cameras and the policy."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fastapi import APIRouter, Request, Response

from vla_server_base.contract import Action, Observation, PolicyRequest, PolicySpec
from vla_server_base.engine.engine import pad_window
from vla_server_base.request_context import current_request_id
from vla_server_base.request_inputs import encode_png
from vla_server_base.scenes.messages import Cost, ProprioChoice, RenderRequest, Scene, choose_proprio
from vla_server_base.schemas.base import ErrorReply
from vla_server_base.schemas.inputs import PredictInputs
from vla_server_base.schemas.predict import PredictRequest
from vla_server_base.schemas.predict_reply import PredictReply, Timing
from vla_server_base.schemas.session_reply import SessionReply, session_reply
from vla_server_base.server.http_body import read_request, reply_json
from vla_server_base.server.in_flight import unless_disconnected
from vla_server_base.server.openapi import PREDICT_EXAMPLES, request_body
from vla_server_base.server.preview import add_preview, preview_chunk
from vla_server_base.server.service import Service
from vla_server_base.sessions.deadline import within_deadline
from vla_server_base.sessions.requests import StepRequest
from vla_server_base.sessions.step import run_step

# Each takes a tenth of a millisecond.
_MAX_SAMPLES_ON_LOOP = 8

router = APIRouter(responses={"default": {"model": ErrorReply, "description": "Any error"}})


@router.post(
    "/predict",
    summary="Answer a scene, or images, and an instruction with an action",
    responses={200: {"model": PredictReply}},
    response_class=Response,
    openapi_extra=request_body(PredictRequest, PREDICT_EXAMPLES),
)
async def predict(request: Request) -> Response:
    started = time.perf_counter()
    service: Service = request.app.state.service
    with service.monitor.timed("read"):
        inputs, scene = await read_request(request, service, PredictRequest)
    assert inputs.engine is not None, "it was read for a model"
    with inputs.engine.in_use():
        work = answer_predict(service, inputs, scene, started)
        return Response(await unless_disconnected(request, work), media_type="application/json")


@dataclass(frozen=True, kw_only=True)
class _Observed:
    """What the policy's cameras saw, oldest first, what it cost to render, and what there is to say of it."""

    observations: tuple[Observation, ...]
    cameras: Mapping[str, str] = field(default_factory=dict)
    geom_groups: tuple[int, ...] = ()
    cost: Cost = field(default_factory=Cost)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Decision:
    """What the policy is to do: one action for each sample, with its chunk."""

    actions: tuple[Action, ...]
    seed: int
    queue_ms: float
    infer_ms: float
    dataset: str | None
    action_format: str
    model: str
    spec: PolicySpec
    unknown_words: tuple[str, ...]
    session: SessionReply | None = None


async def answer_predict(service: Service, inputs: PredictInputs, scene: Scene | None, started: float) -> bytes:
    """Return the reply as JSON; `started` is when the request came, by `time.perf_counter`.

    Raises:
        DeadlinePassed: the deadline passed first; also while the scene waited for a worker.
    """
    observed = _Observed(observations=inputs.observations)
    if scene is not None:
        rendering, left_ms = _render(service, inputs, scene), _left_ms(inputs, started)
        observed = await (rendering if left_ms is None else within_deadline(rendering, left_ms))
    ask = _ask_once if inputs.session is None else _ask_in_session
    decision = await ask(service, inputs, observed.observations, _left_ms(inputs, started))
    preview = None
    if scene is not None and inputs.needs_preview:
        preview = await preview_chunk(service, inputs, scene, decision.actions[0].actions)

    def write() -> bytes:
        begun = time.perf_counter()
        reply = _reply(inputs, observed, decision)
        if scene is not None:
            reply.scene_id = scene.key
            reply.geom_groups = list(observed.geom_groups)
            reply.scene_memory_mb = round(observed.cost.num_bytes / 2**20, 3)
        if preview is not None:
            add_preview(reply, inputs, preview)
        now = time.perf_counter()
        reply.timing_ms.write = round(1e3 * (now - begun), 3)
        service.monitor.stage("write", now - begun)
        reply.timing_ms.total = round(1e3 * (now - started), 3)
        return reply_json(reply)

    # To encode images or poses would hold up the event loop; all else takes less than the way to a thread and back.
    in_thread = inputs.wants_images or (inputs.scene is not None and inputs.scene.wants_poses) or _has_many(inputs)
    return await asyncio.to_thread(write) if in_thread else write()


def _has_many(inputs: PredictInputs) -> bool:
    """Return whether there are too many samples to form and write on the event loop."""
    return inputs.num_samples > _MAX_SAMPLES_ON_LOOP


def _left_ms(inputs: PredictInputs, started: float) -> float | None:
    if inputs.deadline_ms is None:
        return None
    return max(0.0, inputs.deadline_ms - 1e3 * (time.perf_counter() - started))


async def _render(service: Service, inputs: PredictInputs, scene: Scene) -> _Observed:
    """Have the scene rendered, and its arm's state measured for a policy that takes it, unless the request sends it.

    Raises:
        RequestError: the policy requires proprio that this scene's arm does not measure.
    """
    assert inputs.scene is not None, "a request with a scene says how to look at it"
    (observation,) = inputs.observations
    assert inputs.engine is not None, "it was read for a model"
    spec = inputs.engine.spec
    is_measured = spec.proprio_dim is not None and observation.proprio is None
    request = RenderRequest(
        state=inputs.scene.state, view=inputs.scene.view, robot=inputs.scene.robot, measures_proprio=is_measured
    )
    reply = await service.render(scene, request)
    choice = choose_proprio(spec, reply.proprio_names, reply.no_proprio) if is_measured else ProprioChoice()
    service.scenes.put(scene)
    proprio = choice.of(reply.proprio) if is_measured else observation.proprio
    return _Observed(
        observations=(Observation(images=reply.view.images, proprio=proprio),),
        cameras=reply.view.cameras,
        geom_groups=reply.view.geom_groups,
        cost=reply.cost,
        notes=choice.notes,
    )


async def _ask_in_session(
    service: Service, inputs: PredictInputs, observations: tuple[Observation, ...], left_ms: float | None
) -> _Decision:
    (observation,) = observations
    assert inputs.session is not None, "the caller has checked it"
    request = StepRequest(
        observation=observation,
        task=inputs.task,
        seed=inputs.seed,
        engine=inputs.engine,
        names_model=inputs.names_model,
        **inputs.session,
    )
    result = await run_step(service.sessions, replace(request, deadline_ms=left_ms))
    assert result.spec is not None, "a session says what has answered"
    return _Decision(
        actions=(result.action,),
        seed=result.seed,
        queue_ms=result.queue_ms,
        infer_ms=result.infer_ms,
        dataset=result.dataset,
        action_format=result.action_format,
        model=result.model,
        spec=result.spec,
        unknown_words=result.unknown_words,
        session=session_reply(result),
    )


async def _ask_once(
    _: Service, inputs: PredictInputs, observations: tuple[Observation, ...], left_ms: float | None
) -> _Decision:
    """Ask the policy with the window that the request brings.

    Raises:
        DeadlinePassed: the deadline passed first.
    """
    assert inputs.engine is not None, "it was read for a model"
    engine, spec = inputs.engine, inputs.engine.spec
    dataset = inputs.dataset or spec.default_dataset
    request = PolicyRequest(
        window=pad_window(observations, spec.window),
        task=inputs.task,
        seed=secrets.randbelow(2**32) if inputs.seed is None else inputs.seed,
        step=inputs.step,
        num_samples=inputs.num_samples,
        dataset=dataset,
    )
    asked = time.perf_counter()
    work = engine.predict(request)
    prediction = await (work if left_ms is None else within_deadline(work, left_ms))
    engine.monitor.step_answered(time.perf_counter() - asked)
    engine.monitor.note_step(None, request.step, request.seed)
    action_format = inputs.action_format or spec.actions[dataset].formats[0]

    def form_actions() -> tuple[Action, ...]:
        return tuple(engine.form_action(chunk, dataset, action_format) for chunk in prediction.chunks)

    return _Decision(
        actions=await asyncio.to_thread(form_actions) if _has_many(inputs) else form_actions(),
        seed=request.seed,
        queue_ms=prediction.queue_ms,
        infer_ms=prediction.infer_ms,
        dataset=dataset,
        action_format=action_format,
        model=engine.id,
        spec=spec,
        unknown_words=engine.unknown_words(inputs.task),
    )


def _reply(inputs: PredictInputs, observed: _Observed, decision: _Decision) -> PredictReply:
    first = decision.actions[0]
    reply = PredictReply(
        action=first.action.tolist(),
        actions=first.actions.tolist(),
        action_format=decision.action_format,
        action_names=list(first.action_names),
        dataset=decision.dataset,
        seed=decision.seed,
        model=decision.model,
        weights=decision.spec.weights,
        cameras=dict(observed.cameras),
        timing_ms=Timing(
            compile=round(observed.cost.compile_ms, 3),
            render=round(observed.cost.render_ms, 3),
            preview=0.0,
            queue=round(decision.queue_ms, 3),
            infer=round(decision.infer_ms, 3),
            write=0.0,
            total=0.0,
        ),
        request_id=current_request_id.get(),
    )
    if inputs.num_samples > 1:
        reply.samples = [action.actions.tolist() for action in decision.actions]
    if decision.session is not None:
        reply.session = decision.session
    if notes := [*inputs.notes, *observed.notes]:
        reply.notes = notes
    if inputs.wants_images:
        reply.images = {name: encode_png(image) for name, image in observed.observations[-1].images.items()}
    if decision.unknown_words:
        reply.unknown_words = list(decision.unknown_words)
    return reply
