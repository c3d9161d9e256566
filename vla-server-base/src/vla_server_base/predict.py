"""One POST /predict, from the parsed body to the reply: see, run the policy, un-normalize, look ahead."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from vla_server_base.contract import Action, Image, Observation, PolicySpec, Window
from vla_server_base.engine import Prediction
from vla_server_base.errors import ActionRejected
from vla_server_base.images import decode_image, encode_png
from vla_server_base.refusal import JOINT_POSITION, check_predict
from vla_server_base.replies.motion import motion_reply
from vla_server_base.replies.predict import PredictReply, Timing
from vla_server_base.scenes.messages import Cost, RenderRequest, RolloutReply, RolloutRequest, Scene
from vla_server_base.service import Service
from vla_server_base.sessions import ObservationWindow
from vla_server_base.wire.arm import bounds_from_body, control_from_body, robot_from_body
from vla_server_base.wire.predict import PastObservation, PredictRequest
from vla_server_base.wire.scene import state_from_body, view_from_body
from vla_server_base.wire.task import task_from_body


@dataclass(frozen=True, kw_only=True)
class _Sight:
    """What the policy's cameras saw, oldest first, which of the scene's cameras they were, and what it cost."""

    images: tuple[Mapping[str, Image], ...]
    cameras: Mapping[str, str] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)


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
    check_predict(body, spec, service.config)
    task = await asyncio.to_thread(task_from_body, body, service.config.max_image_pixels)
    sight = await (_decode(service, body) if scene is None else _render(service, body, scene, spec))
    window = _window(body, sight, spec.window)
    seed = secrets.randbelow(2**32) if body.seed is None else body.seed
    prediction = await service.engine.predict(window, task, seed, body.step, body.num_samples)
    actions = [_un_normalized(service, body, spec, chunk) for chunk in prediction.chunks]
    foresight = None
    if scene is not None and (body.preview or body.guard != "off" or body.action_format == JOINT_POSITION):
        foresight = await _look_ahead(service, body, scene, actions[0].actions)

    def write() -> bytes:
        reply = _reply(service, body, spec, sight, seed, prediction, actions)
        if scene is not None:
            reply.scene_id = scene.key
            reply.scene_memory_mb = round(sight.cost.num_bytes / 2**20, 3)
        if foresight is not None:
            _add_foresight(reply, body, foresight)
        reply.request_id = request_id
        reply.timing_ms.total = round(1e3 * (time.perf_counter() - started), 3)
        return reply.model_dump_json(exclude_unset=True).encode()

    return await asyncio.to_thread(write)


async def _decode(service: Service, body: PredictRequest) -> _Sight:
    assert body.image is not None, "a request has a scene or an image"
    now = PastObservation(image=body.image, image_wrist=body.image_wrist)
    max_pixels = service.config.max_image_pixels

    def decode() -> _Sight:
        past = [
            _decoded(observation, f"history.{number}.", max_pixels) for number, observation in enumerate(body.history)
        ]
        return _Sight(images=(*past, _decoded(now, "", max_pixels)))

    return await asyncio.to_thread(decode)


def _decoded(observation: PastObservation, where: str, max_pixels: int) -> dict[str, Image]:
    given = {"primary": ("image", observation.image), "wrist": ("image_wrist", observation.image_wrist)}
    return {
        camera: decode_image(text, f"{where}{name}", max_pixels)
        for camera, (name, text) in given.items()
        if text is not None
    }


async def _render(service: Service, body: PredictRequest, scene: Scene, spec: PolicySpec) -> _Sight:
    view = view_from_body(body, with_wrist="wrist" in spec.camera_names)
    reply = await service.render(scene, RenderRequest(state=state_from_body(body.state), view=view))
    service.scenes.remember(scene)
    return _Sight(
        images=(reply.pictures.images,),
        cameras=reply.pictures.cameras,
        cost=reply.cost,
    )


def _window(body: PredictRequest, sight: _Sight, length: int) -> Window:
    """Return the window that ends with what is seen now."""
    history = ObservationWindow(length)
    proprios = [*(observation.proprio for observation in body.history), body.proprio]
    windows = [
        history.append(Observation(images=images, proprio=None if proprio is None else np.array(proprio, np.float64)))
        for images, proprio in zip(sight.images, proprios, strict=True)
    ]
    return windows[-1]


def _un_normalized(
    service: Service, body: PredictRequest, spec: PolicySpec, chunk: Float[np.ndarray, "horizon action_dim"]
) -> Action:
    own = body.action_format if body.action_format in spec.action_formats else None
    dataset = body.dataset or spec.default_dataset
    return service.adapter.postprocess_action(chunk, dataset, own or spec.action_formats[0])


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
    return _Foresight(rollout=rollout, total_ms=1e3 * (time.perf_counter() - started))


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
    seed: int,
    prediction: Prediction,
    actions: list[Action],
) -> PredictReply:
    reply = PredictReply(
        action=actions[0].action.tolist(),
        actions=actions[0].actions.tolist(),
        action_format=body.action_format or spec.action_formats[0],
        action_names=list(actions[0].action_names),
        dataset=body.dataset or spec.default_dataset,
        seed=seed,
        model=service.model_id,
        weights=spec.weights,
        cameras=dict(sight.cameras),
        timing_ms=Timing(
            compile=round(sight.cost.compile_ms, 3),
            render=round(sight.cost.render_ms, 3),
            preview=0.0,
            queue=round(prediction.queue_ms, 3),
            infer=round(prediction.infer_ms, 3),
            total=0.0,
        ),
        request_id="",
    )
    if body.num_samples > 1:
        reply.samples = [action.actions.tolist() for action in actions]
    if body.return_image:
        reply.images = {name: encode_png(image) for name, image in sight.images[-1].items()}
    return reply
