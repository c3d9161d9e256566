"""One POST /predict, from the parsed body to the reply: see, run the policy, un-normalize, look ahead."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from vla_server_base.contract import Action, Image, Observation, PolicySpec, Task
from vla_server_base.errors import ActionRejected
from vla_server_base.images import encode_png
from vla_server_base.scenes.messages import Cost, RenderRequest, RolloutReply, RolloutRequest, Scene
from vla_server_base.schemas.arm import bounds_from_body, control_from_body, robot_from_body
from vla_server_base.schemas.images import decode_pictures, pictures_by_camera
from vla_server_base.schemas.motion import motion_reply
from vla_server_base.schemas.predict import JOINT_POSITION, PredictRequest, step_from_body
from vla_server_base.schemas.predict_reply import PredictReply, Timing
from vla_server_base.schemas.scene import state_from_body, view_from_body
from vla_server_base.schemas.session_reply import SessionReply, session_reply
from vla_server_base.schemas.task import Assignment, assignment_from_body, task_from_assignment
from vla_server_base.server.request_checks import check_predict
from vla_server_base.server.service import Service
from vla_server_base.sessions.action_chunking import ObservationWindow
from vla_server_base.sessions.deadline import within_deadline
from vla_server_base.sessions.step import run_step
from vla_server_base.timing import ms_since

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _Sight:
    """What the policy's cameras saw, oldest first, what of the scene they show, and what it cost."""

    images: tuple[Mapping[str, Image], ...]
    cameras: Mapping[str, str] = field(default_factory=dict)
    geom_groups: tuple[int, ...] = ()
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, kw_only=True)
class _Decision:
    """What the policy is to do: one action for each sample, with its chunk."""

    actions: tuple[Action, ...]
    seed: int
    queue_ms: float
    infer_ms: float
    dataset: str | None
    action_format: str
    session: SessionReply | None = None


@dataclass(frozen=True, kw_only=True)
class _Foresight:
    """What the chunk is predicted to do in the scene."""

    rollout: RolloutReply
    total_ms: float


async def answer_predict(
    service: Service, body: PredictRequest, scene: Scene | None, started: float, request_id: str
) -> bytes:
    """Return the reply as JSON; `started` is when the request came, by `time.perf_counter`."""
    spec = service.engine.spec
    assignment = assignment_from_body(body, spec, service.config.default_instruction)
    check_predict(body, spec, service.config, assignment.dataset)
    max_pixels, fit = service.config.max_image_pixels, service.engine.fit_image
    task = await _beside_loop(lambda: task_from_assignment(assignment, max_pixels, fit), is_long=bool(assignment.goals))
    sight = await (_decode(service, body, spec) if scene is None else _render(service, body, scene, spec))
    left_ms = None if body.deadline_ms is None else max(0.0, body.deadline_ms - ms_since(started))
    decision = await (_in_session if body.is_step else _alone)(service, body, sight, task, assignment.dataset, left_ms)
    foresight = None
    if scene is not None and (body.preview or body.guard != "off" or body.action_format == JOINT_POSITION):
        foresight = await _look_ahead(service, body, scene, decision.actions[0].actions)

    def write() -> bytes:
        begun = time.perf_counter()
        reply = _reply(service, body, spec, sight, decision, assignment)
        if scene is not None:
            reply.scene_id = scene.key
            reply.geom_groups = list(sight.geom_groups)
            reply.scene_memory_mb = round(sight.cost.num_bytes / 2**20, 3)
        if unknown := service.engine.unknown_words(task):
            reply.unknown_words = list(unknown)
        if foresight is not None:
            _add_foresight(reply, body, foresight)
        reply.request_id = request_id
        reply.timing_ms.write = round(ms_since(begun), 3)
        reply.timing_ms.total = round(ms_since(started), 3)
        return reply.to_json()

    return await _beside_loop(write, is_long=body.return_image)


async def _beside_loop(work: Callable[[], T], *, is_long: bool) -> T:
    """Do in a thread what would hold up the event loop; what is short takes less than the way there and back."""
    return await asyncio.to_thread(work) if is_long else work()


async def _decode(service: Service, body: PredictRequest, spec: PolicySpec) -> _Sight:
    seen = [pictures_by_camera(past, spec, f"history.{number}.") for number, past in enumerate(body.history)]
    seen.append(pictures_by_camera(body, spec))
    max_pixels, fit = service.config.max_image_pixels, service.engine.fit_image
    return await asyncio.to_thread(
        lambda: _Sight(images=tuple(decode_pictures(each, max_pixels, fit) for each in seen))
    )


async def _render(service: Service, body: PredictRequest, scene: Scene, spec: PolicySpec) -> _Sight:
    view = view_from_body(body, spec)
    reply = await service.render(scene, RenderRequest(state=state_from_body(body.state), view=view))
    service.scenes.remember(scene)
    return _Sight(
        images=(reply.pictures.images,),
        cameras=reply.pictures.cameras,
        geom_groups=reply.pictures.geom_groups,
        cost=reply.cost,
    )


async def _in_session(
    service: Service, body: PredictRequest, sight: _Sight, task: Task, dataset: str | None, deadline_ms: float | None
) -> _Decision:
    (observation,) = _observations(body, sight)
    request = replace(step_from_body(body, observation, task, dataset), deadline_ms=deadline_ms)
    result = await run_step(service.sessions, request)
    return _Decision(
        actions=(result.action,),
        seed=result.seed,
        queue_ms=result.queue_ms,
        infer_ms=result.infer_ms,
        dataset=result.dataset,
        action_format=result.action_format,
        session=session_reply(result),
    )


async def _alone(
    service: Service, body: PredictRequest, sight: _Sight, task: Task, dataset: str | None, deadline_ms: float | None
) -> _Decision:
    """Ask the policy with the window that the request brings.

    Raises:
        DeadlineExceeded: the deadline passed first.
    """
    spec = service.engine.spec
    dataset = dataset or spec.default_dataset
    history = ObservationWindow(spec.window)
    *_, window = [history.append(observation) for observation in _observations(body, sight)]
    seed = secrets.randbelow(2**32) if body.seed is None else body.seed
    formats = spec.actions_of(dataset).formats
    # Joint positions are formed later, of the actions in the policy's own format.
    own = body.action_format if body.action_format in formats else formats[0]
    asking = service.engine.predict(window, task, seed, body.step, body.num_samples, dataset)
    prediction = await within_deadline(asking, deadline_ms)
    return _Decision(
        actions=tuple(service.engine.form_action(chunk, dataset, own) for chunk in prediction.chunks),
        seed=seed,
        queue_ms=prediction.queue_ms,
        infer_ms=prediction.infer_ms,
        dataset=dataset,
        action_format=own,
    )


def _observations(body: PredictRequest, sight: _Sight) -> list[Observation]:
    proprios = [*(observation.proprio for observation in body.history), body.proprio]
    return [
        Observation(images=images, proprio=None if proprio is None else np.array(proprio, np.float64))
        for images, proprio in zip(sight.images, proprios, strict=True)
    ]


async def _look_ahead(
    service: Service, body: PredictRequest, scene: Scene, chunk: Float[np.ndarray, "horizon action_dim"]
) -> _Foresight:
    """Roll a chunk out in the scene.

    Raises:
        ActionRejected: it leaves the bounds, and the guard is to reject it.
    """
    started = time.perf_counter()
    request = RolloutRequest(
        start=state_from_body(body.state),
        actions=chunk,
        robot=robot_from_body(body.robot),
        control=control_from_body(body.control),
        bounds=bounds_from_body(body.bounds),
        clamp=body.guard == "clamp",
    )
    rollout = await service.roll_out(scene, request)
    violations = [found for step in rollout.steps for found in step.violations]
    if body.guard == "reject" and violations:
        found = violations[0]
        raise ActionRejected(
            f"the policy's action would leave the bounds: {found.kind} of {found.what} {found.value:.4g},"
            f" limit {found.limit:.4g}" + (f", and {len(violations) - 1} more" if len(violations) > 1 else ""),
            hint="guard: warn returns it with all that is wrong with it, guard: clamp cuts it",
        )
    return _Foresight(rollout=rollout, total_ms=ms_since(started))


def _add_foresight(reply: PredictReply, body: PredictRequest, foresight: _Foresight) -> None:
    """Add what the chunk does, cut it where the guard did, and form joint positions where they are asked for."""
    steps, robot = foresight.rollout.steps, foresight.rollout.robot
    assert robot is not None, "a controlled rollout has an arm"
    for action, step in zip(reply.actions, steps, strict=True):
        action[:6] = [step.scale * number for number in action[:6]]
    if body.guard == "clamp":
        num_moving = min(6, len(reply.action))
        reply.action[:num_moving] = reply.actions[0][:num_moving]
    if body.action_format == JOINT_POSITION:
        reply.action = [*steps[0].joint_targets.tolist(), reply.actions[0][-1]]
        reply.action_format = JOINT_POSITION
        reply.action_names = [*robot.joints, "gripper"]
    if body.preview or body.guard != "off":
        reply.preview = [motion_reply(step) for step in steps]
    reply.timing_ms.preview = round(foresight.total_ms, 3)


def _reply(
    service: Service,
    body: PredictRequest,
    spec: PolicySpec,
    sight: _Sight,
    decision: _Decision,
    assignment: Assignment,
) -> PredictReply:
    first = decision.actions[0]
    reply = PredictReply(
        action=first.action.tolist(),
        actions=first.actions.tolist(),
        action_format=decision.action_format,
        action_names=list(first.action_names),
        dataset=decision.dataset,
        seed=decision.seed,
        model=service.model_id,
        weights=spec.weights,
        cameras=dict(sight.cameras),
        timing_ms=Timing(
            compile=round(sight.cost.compile_ms, 3),
            render=round(sight.cost.render_ms, 3),
            preview=0.0,
            queue=round(decision.queue_ms, 3),
            infer=round(decision.infer_ms, 3),
            write=0.0,
            total=0.0,
        ),
        request_id="",
    )
    if body.num_samples > 1:
        reply.samples = [action.actions.tolist() for action in decision.actions]
    if decision.session is not None:
        reply.session = decision.session
    if assignment.notes:
        reply.notes = list(assignment.notes)
    if body.return_image:
        reply.images = {name: encode_png(image) for name, image in sight.images[-1].items()}
    return reply
