"""The server's errors: what a caller can get wrong, and what can fail on the server.

The tree starts in `vla_client.errors`, whose VLAError, RequestError, ProtocolError and Unauthorized are imported here.

VLAError                    500  internal
├── NotFinite               500  not_finite       (an answer would hold NaN or infinity)
├── RequestError            422  invalid_request
│   ├── ActionRejected      422  action_rejected  (the policy's chunk would leave the bounds)
│   ├── UnknownName         422  unknown_<what>: camera, dataset, action_format, keyframe, model
│   │                       404: robot, scene, task
│   ├── InstructionError    422  instruction
│   ├── ImageError          422  image
│   ├── SceneError          422  scene_invalid
│   │   ├── SceneRefused    422  scene_refused    (names files, plugins, or asks for too much)
│   │   ├── SceneStateError 422  scene_state      (such as a qpos of a wrong size)
│   │   ├── SceneUnstable   422  scene_unstable   (its simulation diverged)
│   │   ├── MissingAsset    422  scene_missing_asset
│   │   ├── SceneTimeout    422  scene_timeout    (its worker was ended)
│   │   └── SceneCrashed    422  scene_crashed    (two workers died of it, or MuJoCo aborted)
│   │       └── SceneTooLarge 422 scene_crashed   (it needs more memory than a worker may have)
│   ├── UnknownSceneId      422  unknown_scene_id (never stored, or dropped)
│   ├── EpisodeTooLong      422  episode_too_long (it used up its workers' time)
│   ├── ContractDiffers     422  contract_differs (a model takes or gives what robots do not expect)
│   ├── AssetMismatch       422  asset_mismatch   (the bytes are not what their hash says)
│   ├── InvalidToken        422  invalid_token    (a session token of another server, or too old)
│   ├── SessionGone         410  session_gone     (no server has what its next step goes on from)
│   ├── ProtocolError       422  protocol         (a message does not follow its protocol)
│   ├── BodyTooLarge        413  body_too_large
│   ├── HeadTooLarge        431  head_too_large   (the request line and the headers)
│   ├── RequestTimeout      408  request_timeout  (what the client sends does not come in time)
│   ├── Unauthorized        401  unauthorized     (no API key, or none that is valid here)
│   ├── Forbidden           403  forbidden        (a web page of another origin, or another server's name)
│   ├── Malformed           400  malformed        (not a valid HTTP request)
│   ├── UnsupportedMedia    415  unsupported_media
│   ├── MethodNotAllowed    405  method_not_allowed
│   ├── UpgradeRequired     426  upgrade_required (the route is only for WebSockets)
│   └── NotFound            404  not_found
├── DatasetError            500  internal         (never in a reply: recorded episodes on disk)
├── UsageError              500  internal         (never in a reply: flags out of range, or not to be combined)
├── Interrupted             500  internal         (never in a reply: Ctrl-C ended a command)
├── Superseded              409  superseded       (a newer observation of its session has come)
├── EpisodeEnded            409  episode_ended    (it can no longer be steered)
├── ModelConflict           409  model_conflict   (a model's state does not allow it: it loads, serves, has sessions)
└── Unavailable             503  unavailable
    ├── ModelUnavailable    503  model_unavailable
    │   └── ModelOutOfReach 503  model_unavailable (worth another try: a hub that does not answer)
    ├── Overloaded          503  overloaded
    ├── TooManyWrongKeys    429  too_many_wrong_keys
    ├── RateLimited         429  rate_limited     (the client sends more requests a second than it may)
    ├── RendererUnavailable 503  renderer_unavailable
    └── DeadlinePassed      504  deadline_exceeded (its deadline passed first)
"""

from collections.abc import Iterable

from vla_client.errors import ProtocolError as ProtocolError
from vla_client.errors import RequestError as RequestError
from vla_client.errors import Unauthorized as Unauthorized
from vla_client.errors import VLAError as VLAError


class NotFinite(VLAError):
    """The answer would contain NaN or infinity."""

    code = "not_finite"


# These names are part of a URL, so that an unknown one is a 404.
IN_AN_ADDRESS = ("robot", "scene", "task")


class UnknownName(RequestError):
    """A name that is not among the known ones, which the message lists."""

    def __init__(self, what: str, given: str, known: Iterable[str]):
        listed = ", ".join(sorted(known)) or "none"
        super().__init__(f"{what.replace('_', ' ')} '{given[:80]}' is not known", hint=f"available: {listed}")
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
    """An image cannot be decoded, is too large, or is for a camera that the policy lacks."""

    code = "image"


class SceneError(RequestError):
    """The scene does not compile or cannot be rendered; the message carries the line where known."""

    code = "scene_invalid"


class SceneRefused(SceneError):
    """The scene uses something that a client's scene may not use: files, plugins, or far too much memory or time."""

    code = "scene_refused"


class SceneStateError(SceneError):
    """A state that does not fit the scene: wrong sizes, a missing keyframe, or numbers that are not finite."""

    code = "scene_state"


class SceneUnstable(SceneError):
    """The simulation diverged: the time step or a force is too large, or bodies overlap at the start."""

    code = "scene_unstable"


class MissingAsset(SceneError):
    """The scene names an asset that the request does not carry."""

    code = "scene_missing_asset"


class SceneTimeout(SceneError):
    """The scene took too long; its worker was ended."""

    code = "scene_timeout"


class SceneCrashed(SceneError):
    """The scene ended two workers in a row, or made MuJoCo abort."""

    code = "scene_crashed"


class SceneTooLarge(SceneCrashed):
    """The scene needs more memory than a worker may have, alone in it."""


class EpisodeTooLong(RequestError):
    """The episode used up its share of the scene workers' time."""

    code = "episode_too_long"


class UnknownSceneId(RequestError):
    """The server does not store a scene with this hash, or no longer does."""

    code = "unknown_scene_id"


class AssetMismatch(RequestError):
    """The bytes of an upload do not have the hash in its address."""

    code = "asset_mismatch"


class ContractDiffers(RequestError):
    """A model takes or gives something else than the one that serves, on which connected robots rely."""

    code = "contract_differs"


class InvalidToken(RequestError):
    """A session token that this server did not sign, or that is too old."""

    code = "invalid_token"


class SessionGone(RequestError):
    """What a session that several servers share had come to is lost, or of a model or version that is not here."""

    status = 410
    code = "session_gone"


class BodyTooLarge(RequestError):
    """The body is over the server's limit."""

    status = 413
    code = "body_too_large"


class HeadTooLarge(RequestError):
    """The request line and the headers are too long, or too many."""

    status = 431
    code = "head_too_large"

    def __init__(self, max_bytes: int, max_headers: int):
        super().__init__(
            f"the head of the request has more than {max_bytes} bytes or {max_headers} headers",
            hint="send fewer and shorter headers",
        )


class RequestTimeout(RequestError):
    """The request's head or body does not come in time."""

    status = 408
    code = "request_timeout"


class Forbidden(RequestError):
    """A browser sends the request for a page of another origin, or under a host name that is not the server's."""

    status = 403
    code = "forbidden"


class Malformed(RequestError):
    """The bytes are not a valid HTTP request."""

    status = 400
    code = "malformed"


class UnsupportedMedia(RequestError):
    """The body has a content type or an encoding that the server does not read."""

    status = 415
    code = "unsupported_media"


class MethodNotAllowed(RequestError):
    """The route exists, but not for this method."""

    status = 405
    code = "method_not_allowed"


class UpgradeRequired(RequestError):
    """The route exists, but only for WebSockets."""

    status = 426
    code = "upgrade_required"


class NotFound(RequestError):
    """No route has this address."""

    status = 404
    code = "not_found"


class DatasetError(VLAError):
    """Recorded episodes are missing, damaged, or do not fit together."""


class UsageError(VLAError):
    """A flag's value is out of range, or flags cannot be combined."""


class Interrupted(VLAError):
    """Ctrl-C ended a command; the message says what is kept, the hint how to continue."""


class Superseded(VLAError):
    """The request is out of date: its session has seen a newer observation, or was ended."""

    status = 409
    code = "superseded"


class EpisodeEnded(VLAError):
    """The episode that a request steers has ended."""

    status = 409
    code = "episode_ended"


class ModelConflict(VLAError):
    """The state of a held model, or of the server, does not allow what a request does with it."""

    status = 409
    code = "model_conflict"


class Unavailable(VLAError):
    """The request is valid, but the server cannot answer it now; the client may send it again after `retry_after_s`."""

    status = 503
    code = "unavailable"
    retry_after_s: int = 5

    def __init__(self, message: str, *, hint: str, retry_after_s: int | None = None):
        super().__init__(message, hint=hint)
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s


class ModelUnavailable(Unavailable):
    """The policy is still loading, or could not be loaded."""

    code = "model_unavailable"


class ModelOutOfReach(ModelUnavailable):
    """The policy could not be loaded for now, such as when a hub does not answer; loading is retried."""


class Overloaded(Unavailable):
    """The server has no room for more requests, sessions or connections."""

    code = "overloaded"
    retry_after_s = 1


class TooManyWrongKeys(Unavailable):
    """The client's address has sent many wrong API keys; a valid one is answered nevertheless."""

    status = 429
    code = "too_many_wrong_keys"
    retry_after_s = 60


class RateLimited(Unavailable):
    """The client sends more requests a second than it may."""

    status = 429
    code = "rate_limited"


class RendererUnavailable(Unavailable):
    """No renderer works on this machine."""

    code = "renderer_unavailable"


class DeadlinePassed(Unavailable):
    """The deadline passed before there was an answer."""

    status = 504
    code = "deadline_exceeded"
