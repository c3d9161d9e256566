"""The server's errors: what a caller can get wrong, and what can fail on the server.

The tree starts in `vla_client.errors`, whose VLAError, RequestError and ProtocolError are imported here.

VLAError                    500  internal
├── NotFinite               500  not_finite       (an answer would hold NaN or infinity)
├── RequestError            422  invalid_request
│   ├── ActionRejected      422  action_rejected  (the policy's chunk would leave the bounds)
│   ├── UnknownName         422  unknown_<what>: camera, dataset, action_format, keyframe; 404: robot, scene
│   ├── InstructionError    422  instruction
│   ├── ImageError          422  image
│   ├── SceneError          422  scene_invalid
│   │   ├── SceneRefused    422  scene_refused    (names files, plugins, or asks for too much)
│   │   ├── SceneStateError 422  scene_state      (qpos and the like of a wrong size)
│   │   ├── SceneUnstable   422  scene_unstable   (its simulation blew up)
│   │   ├── MissingAsset    422  scene_missing_asset
│   │   ├── SceneTimeout    422  scene_timeout    (its worker was ended)
│   │   └── SceneCrashed    422  scene_crashed    (two workers died of it, or MuJoCo broke off)
│   │       └── SceneTooLarge 422 scene_crashed   (it needs more memory than a worker may have)
│   ├── UnknownSceneId      422  unknown_scene_id (never answered here, or forgotten)
│   ├── EpisodeTooLong      422  episode_too_long (it used up its workers' time)
│   ├── AssetMismatch       422  asset_mismatch   (the bytes are not what their hash says)
│   ├── InvalidToken        422  invalid_token    (a session token that is not of this server, or too old)
│   ├── ProtocolError       422  protocol         (a frame that is not of its protocol)
│   ├── BodyTooLarge        413  body_too_large
│   ├── HeadTooLarge        431  head_too_large   (the request line and the headers)
│   ├── RequestTimeout      408  request_timeout  (what the client sends does not come in time)
│   ├── Forbidden           403  forbidden        (a web page of another origin, or another server's name)
│   ├── Malformed           400  malformed        (this is not HTTP)
│   ├── UnsupportedMedia    415  unsupported_media
│   ├── MethodNotAllowed    405  method_not_allowed
│   ├── UpgradeRequired     426  upgrade_required (only WebSockets are taken there)
│   └── NotFound            404  not_found
├── DatasetError            500  internal         (never a request's: recorded episodes on disk)
├── Superseded              409  superseded       (a newer observation of its session has come)
└── Unavailable             503  unavailable
    ├── ModelUnavailable    503  model_unavailable
    │   └── ModelOutOfReach 503  model_unavailable (worth another try: a hub that does not answer)
    ├── Overloaded          503  overloaded
    ├── RendererUnavailable 503  renderer_unavailable
    └── DeadlinePassed      504  deadline_exceeded (its deadline passed first)
"""

from collections.abc import Iterable

from vla_client.errors import ProtocolError as ProtocolError
from vla_client.errors import RequestError as RequestError
from vla_client.errors import VLAError as VLAError


class NotFinite(VLAError):
    """The answer would hold a number that is none: NaN or infinity."""

    code = "not_finite"


# Names that stand in an address, not in a body: there is nothing at that address.
IN_AN_ADDRESS = ("robot", "scene")


class UnknownName(RequestError):
    """A name that is not among the known ones, which the message lists."""

    def __init__(self, what: str, given: str, known: Iterable[str]):
        listed = ", ".join(sorted(known)) or "none"
        super().__init__(f"{what.replace('_', ' ')} '{given[:80]}' is not known", hint=f"known here: {listed}")
        self.code = f"unknown_{what}"
        if what in IN_AN_ADDRESS:
            self.status = 404


class ActionRejected(RequestError):
    """The policy's chunk would leave the request's bounds, and its guard is `reject`."""

    code = "action_rejected"


class InstructionError(RequestError):
    """The instruction is empty or too long."""

    code = "instruction"


class ImageError(RequestError):
    """A picture cannot be decoded, is too large, or is for a camera the policy lacks."""

    code = "image"


class SceneError(RequestError):
    """The scene does not compile or cannot be rendered; the message carries the line where known."""

    code = "scene_invalid"


class SceneRefused(SceneError):
    """The scene asks for something no stranger's scene gets: files, plugins, or far too much."""

    code = "scene_refused"


class SceneStateError(SceneError):
    """A state that does not fit the scene: sizes, a keyframe that is not there, numbers not finite."""

    code = "scene_state"


class SceneUnstable(SceneError):
    """The scene's simulation left all bounds: too large a time step, forces, or a pose inside something."""

    code = "scene_unstable"


class MissingAsset(SceneError):
    """The scene names an asset that the request does not carry."""

    code = "scene_missing_asset"


class SceneTimeout(SceneError):
    """The scene took too long; its worker was ended."""

    code = "scene_timeout"


class SceneCrashed(SceneError):
    """The scene killed two workers one after the other, or MuJoCo broke off at it."""

    code = "scene_crashed"


class SceneTooLarge(SceneCrashed):
    """The scene needs more memory than a worker may have, alone in it."""


class EpisodeTooLong(RequestError):
    """The episode used up the scene workers' time that one may take."""

    code = "episode_too_long"


class UnknownSceneId(RequestError):
    """A scene that is named by its hash is not held here, or no longer."""

    code = "unknown_scene_id"


class AssetMismatch(RequestError):
    """The bytes that were put under a hash have another."""

    code = "asset_mismatch"


class InvalidToken(RequestError):
    """A session token that was not signed here, or is too old."""

    code = "invalid_token"


class BodyTooLarge(RequestError):
    """The body is over the server's limit."""

    status = 413
    code = "body_too_large"


class HeadTooLarge(RequestError):
    """The request line and the headers are too long, or too many."""

    status = 431
    code = "head_too_large"

    def __init__(self, max_bytes: int, max_headers: int):
        super().__init__(f"the head of a request is at most {max_bytes} bytes and {max_headers} headers")


class RequestTimeout(RequestError):
    """The request's head or body does not come in time."""

    status = 408
    code = "request_timeout"


class Forbidden(RequestError):
    """A browser sends this for a page that is not this server's, or under a name that is not."""

    status = 403
    code = "forbidden"


class Malformed(RequestError):
    """What came is no HTTP request."""

    status = 400
    code = "malformed"


class UnsupportedMedia(RequestError):
    """The body is of a type or an encoding that is not read here."""

    status = 415
    code = "unsupported_media"


class MethodNotAllowed(RequestError):
    """There is something at this address, but not for this method."""

    status = 405
    code = "method_not_allowed"


class UpgradeRequired(RequestError):
    """There is something at this address, but for WebSockets alone."""

    status = 426
    code = "upgrade_required"


class NotFound(RequestError):
    """There is nothing at this address."""

    status = 404
    code = "not_found"


class DatasetError(VLAError):
    """Recorded episodes are missing, damaged, or do not fit together."""


class Superseded(VLAError):
    """The request is out of date: its session has seen a newer observation, or was ended."""

    status = 409
    code = "superseded"


class Unavailable(VLAError):
    """The request was fine, the server cannot answer it now; it may be sent again after `retry_after_s`."""

    status = 503
    code = "unavailable"
    retry_after_s = 5


class ModelUnavailable(Unavailable):
    """The policy is still loading, or could not be loaded."""

    code = "model_unavailable"


class ModelOutOfReach(ModelUnavailable):
    """The policy could not be loaded for a reason that may pass, as a hub that does not answer: it is tried again."""


class Overloaded(Unavailable):
    """More is waiting than the server takes."""

    code = "overloaded"
    retry_after_s = 1


class RendererUnavailable(Unavailable):
    """No renderer works on this machine."""

    code = "renderer_unavailable"


class DeadlinePassed(Unavailable):
    """The deadline passed before there was an answer."""

    status = 504
    code = "deadline_exceeded"
