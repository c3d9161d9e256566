"""One POST /predict, from the parsed body to the reply: check, see, run the policy, un-normalize."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vla_server_base.config import ServerConfig
from vla_server_base.contract import Image, Observation, PolicySpec
from vla_server_base.engine import Prediction
from vla_server_base.errors import ImageError, InstructionError, RequestError, UnknownName
from vla_server_base.images import decode_image, encode_png
from vla_server_base.replies import PredictReply, Timing
from vla_server_base.service import Service
from vla_server_base.sessions import ObservationWindow
from vla_server_base.wire import PredictRequest, render_request_from_body, task_from_body


@dataclass(frozen=True, kw_only=True)
class _Sight:
    """What the policy's cameras saw, which of the scene's cameras they were, and what it cost."""

    images: Mapping[str, Image]
    cameras: Mapping[str, str] = field(default_factory=dict)
    compile_ms: float = 0.0
    render_ms: float = 0.0


async def answer_predict(service: Service, body: PredictRequest, started: float, request_id: str) -> bytes:
    """Return the reply as JSON; `started` is when the request came, by `time.perf_counter`."""
    spec = service.engine.spec
    check_against_policy(body, spec, service.config)
    task = await asyncio.to_thread(task_from_body, body, service.config.max_image_pixels)
    sight = await (_decode(service, body) if body.xml_string is None else _render(service, body, spec))
    proprio = None if body.proprio is None else np.array(body.proprio, np.float64)
    window = ObservationWindow(spec.window).append(Observation(images=sight.images, proprio=proprio))
    seed = secrets.randbelow(2**32) if body.seed is None else body.seed
    prediction = await service.engine.predict(window, task, seed, num_samples=body.num_samples)

    def write() -> bytes:
        reply = _reply(service, body, spec, sight, seed, prediction)
        reply.request_id = request_id
        reply.timing_ms.total = round(1e3 * (time.perf_counter() - started), 3)
        return reply.model_dump_json(exclude_unset=True).encode()

    return await asyncio.to_thread(write)


def check_against_policy(body: PredictRequest, spec: PolicySpec, config: ServerConfig) -> None:
    """Refuse what this policy cannot answer, before anything is rendered for it.

    Raises:
        InstructionError, ImageError, UnknownName, RequestError: naming what is taken instead.
    """
    _check_instruction(body, spec)
    _check_cameras(body, spec)
    if body.dataset is not None and body.dataset not in spec.datasets:
        raise UnknownName("dataset", body.dataset, spec.datasets)
    if body.action_format is not None and body.action_format not in spec.action_formats:
        raise UnknownName("action_format", body.action_format, spec.action_formats)
    if body.num_samples > config.max_samples:
        raise RequestError(f"num_samples: {body.num_samples} is over this server's limit of {config.max_samples}")
    if body.proprio is not None and len(body.proprio) != spec.proprio_dim:
        takes = f"takes {spec.proprio_dim}" if spec.proprio_dim else "takes none"
        raise RequestError(f"proprio: {len(body.proprio)} numbers are given, this policy {takes}")


def _check_instruction(body: PredictRequest, spec: PolicySpec) -> None:
    goals = body.goal_image is not None or body.goal_image_wrist is not None
    if not body.instruction.strip() and not goals:
        hint = "say what the robot is to do: an instruction" + (", or a goal_image" if spec.takes_goal_images else "")
        raise InstructionError("the instruction is empty", hint=hint)
    if len(body.instruction) > spec.max_instruction_chars:
        given, limit = len(body.instruction), spec.max_instruction_chars
        raise InstructionError(f"the instruction has {given} characters, at most {limit} are taken")
    if goals and not spec.takes_goal_images:
        raise ImageError("this policy takes no goal images", hint="say it in the instruction instead")


def _check_cameras(body: PredictRequest, spec: PolicySpec) -> None:
    names = [camera.name for camera in spec.cameras]
    pictures = {
        "image": ("primary", body.image),
        "image_wrist": ("wrist", body.image_wrist),
        "goal_image": ("primary", body.goal_image),
        "goal_image_wrist": ("wrist", body.goal_image_wrist),
    }
    for picture, (camera, given) in pictures.items():
        if given is not None and camera not in names:
            raise ImageError(f"{picture}: this policy has no {camera} camera", hint=f"it has: {', '.join(names)}")
    if body.wrist_camera and "wrist" not in names:
        raise UnknownName("camera", "wrist", names)


async def _decode(service: Service, body: PredictRequest) -> _Sight:
    def decode() -> _Sight:
        given = {"primary": ("image", body.image), "wrist": ("image_wrist", body.image_wrist)}
        max_pixels = service.config.max_image_pixels
        return _Sight(
            images={
                camera: decode_image(text, name, max_pixels)
                for camera, (name, text) in given.items()
                if text is not None
            }
        )

    return await asyncio.to_thread(decode)


async def _render(service: Service, body: PredictRequest, spec: PolicySpec) -> _Sight:
    with_wrist = any(camera.name == "wrist" for camera in spec.cameras)
    request = await asyncio.to_thread(render_request_from_body, body, with_wrist=with_wrist)
    reply = await service.render(request)
    return _Sight(images=reply.images, cameras=reply.cameras, compile_ms=reply.compile_ms, render_ms=reply.render_ms)


def _reply(
    service: Service,
    body: PredictRequest,
    spec: PolicySpec,
    sight: _Sight,
    seed: int,
    prediction: Prediction,
) -> PredictReply:
    dataset = body.dataset or spec.default_dataset
    action_format = body.action_format or spec.action_formats[0]
    actions = [service.adapter.postprocess_action(chunk, dataset, action_format) for chunk in prediction.chunks]
    reply = PredictReply(
        action=actions[0].action.tolist(),
        actions=actions[0].actions.tolist(),
        action_format=action_format,
        action_names=list(actions[0].action_names),
        dataset=dataset,
        seed=seed,
        model=service.model_id,
        weights=spec.weights,
        cameras=dict(sight.cameras),
        timing_ms=Timing(
            compile=round(sight.compile_ms, 3),
            render=round(sight.render_ms, 3),
            queue=round(prediction.queue_ms, 3),
            infer=round(prediction.infer_ms, 3),
            total=0.0,
        ),
        request_id="",
    )
    if body.num_samples > 1:
        reply.samples = [action.actions.tolist() for action in actions]
    if body.return_image:
        reply.images = {name: encode_png(image) for name, image in sight.images.items()}
    return reply
