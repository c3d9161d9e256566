"""One turn of a session, from the parsed body to the policy's actions."""

import base64

from vla_server_base.contract import Observation, Task
from vla_server_base.errors import RequestError
from vla_server_base.refusal import JOINT_POSITION
from vla_server_base.replies.session import SessionReply
from vla_server_base.service import Service
from vla_server_base.session import Answer, Session, Turn
from vla_server_base.wire.predict import PredictRequest
from vla_server_base.wire.session import settings_from_body, token_from_body


async def take_turn(
    service: Service, body: PredictRequest, observation: Observation, task: Task, deadline_ms: float | None
) -> tuple[Answer, SessionReply]:
    """Return what the session is to do now, within what is left of the deadline, and where it is.

    Raises:
        Superseded, Late, RequestError, Unavailable: see `Sessions.open`, `Sessions.resume` and `Session.act`.
    """
    session = await _session(service, body)
    if body.reset:
        session.reset(body.seed)
    elif body.seed not in (None, session.progress.seed):
        raise RequestError(
            f"seed: session '{session.id}' has the seed {session.progress.seed}",
            hint="leave it out, or begin a new episode with it: reset",
        )
    turn = Turn(
        observation=observation,
        task=task,
        sequence=body.sequence,
        obs_time=body.obs_time,
        deadline_ms=deadline_ms,
    )
    answer = await session.act(turn)
    reply = SessionReply(
        id=session.id,
        step=answer.step,
        sequence=body.sequence,
        obs_time=body.obs_time,
        asked_policy=answer.asked_policy,
    )
    if body.return_token:
        reply.token = base64.b64encode(await service.sessions.token(session)).decode("ascii")
    return answer, reply


async def _session(service: Service, body: PredictRequest) -> Session:
    if body.session_token is not None:
        return await service.sessions.resume(token_from_body(body))
    settings = settings_from_body(body) | _formats(body)
    return service.sessions.open(body.session_id, body.seed, **settings)


def _formats(body: PredictRequest) -> dict[str, str]:
    # Joint positions are formed of each answer, by the scene's own arm.
    given = {"dataset": body.dataset, "action_format": body.action_format}
    return {name: value for name, value in given.items() if value not in (None, JOINT_POSITION)}
