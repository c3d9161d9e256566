"""What a request has a claim to: its owner, its class and when it is due."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from vla_server_base.errors import RequestError
from vla_server_base.request_context import (
    Priority,
    current_client,
    current_deadline,
    current_priority,
    current_session,
)

PRIORITIES: tuple[Priority, ...] = get_args(Priority)
"""The classes, the most urgent one first."""

NO_DEADLINE_S = 1.0
"""When a request is due that has no deadline, or a later one."""

SHARE = 16
"""A less urgent class gets one in so many turns, and one in so many places of a full queue, if it asks for them.

A share of the turns, not a limit on the age: on a busy device all evaluations grow old, and would then be a robot's
equals. So a robot waits for at most one request of an evaluation in every sixteen steps.
"""


@dataclass(frozen=True)
class Flow:
    """The owner of an item: a client by its name, and one of its sessions."""

    client: str
    session: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Claim:
    """The owner of an item, its class, and when it is due, by `time.monotonic`.

    After `deadline` the answer is of no use; None if it has no deadline.
    """

    flow: Flow
    priority: Priority
    due_at: float
    deadline: float | None = None

    def is_more_urgent_than(self, other: "Claim") -> bool:
        """Return whether this is of a more urgent class."""
        return PRIORITIES.index(self.priority) < PRIORITIES.index(other.priority)

    def has_passed(self, now: float) -> bool:
        """Return whether it is too late to begin with this."""
        return self.deadline is not None and now >= self.deadline


def current_flow() -> Flow:
    """Return the owner of the present task's request."""
    return Flow(current_client.get(), current_session.get())


def current_claim() -> Claim:
    """Return the claim of the present task's request, which comes now."""
    deadline, due_at = current_deadline.get(), time.monotonic() + NO_DEADLINE_S
    return Claim(
        flow=current_flow(),
        priority=current_priority.get(),
        due_at=due_at if deadline is None else min(due_at, deadline),
        deadline=deadline,
    )


def lowered_priority(requested: str | None, highest: Priority = "robot") -> Priority:
    """Return the class of a request: that of its key, or the one of its `X-Priority` header if that is less urgent.

    Raises:
        RequestError: the header names no class.
    """
    if requested is None:
        return highest
    named: Priority | None = next((priority for priority in PRIORITIES if priority == requested.strip().lower()), None)
    if named is None:
        raise RequestError(
            f"X-Priority is '{requested[:80]}', expected {', '.join(PRIORITIES[:-1])} or {PRIORITIES[-1]}",
            hint="leave it out for a robot; an evaluation sends batch, a person's program human",
        )
    return named if PRIORITIES.index(named) > PRIORITIES.index(highest) else highest


def displaced_by(claim: Claim, claims: Sequence[Claim], num_places: int) -> Claim | None:
    """Return which of the claims on all places must give way to a new one; None if none must.

    That is one of the least urgent class that has more than its share of the places, if the new one is more urgent; of
    its own class else; or of any while its own class has less than its share. The client with the most items gives up
    the one that is due last.
    """
    share, rank = num_places // SHARE, PRIORITIES.index(claim.priority)
    of_classes = {priority: [each for each in claims if each.priority == priority] for priority in PRIORITIES}
    for priority in reversed(PRIORITIES[rank + 1 :]):
        if len(crowd := of_classes[priority]) > share:
            return _last_of(_greediest([each.flow for each in crowd]), crowd)
    crowd = of_classes[claim.priority]
    if len(crowd) < share:
        crowd = claims
    flow = greediest_beside(claim.flow, [each.flow for each in crowd]) if crowd else None
    return None if flow is None else _last_of(flow, crowd)


def greediest_beside(flow: Flow, flows: Sequence[Flow]) -> Flow | None:
    """Return the flow that must give up an item for a new one of `flow`; None if that would not be fairer.

    `flows` has the flow of each waiting item. The client with the most items gives up one; if `flow` is of the same
    client, its session with the most.
    """
    greediest = _greediest(flows)
    if greediest.client == flow.client:
        return greediest if flows.count(flow) + 1 < flows.count(greediest) else None
    of_clients = Counter(each.client for each in flows)
    return greediest if of_clients[flow.client] + 1 < of_clients[greediest.client] else None


def _greediest(flows: Sequence[Flow]) -> Flow:
    """Return the session with the most items, of the client with the most."""
    client, _ = Counter(each.client for each in flows).most_common(1)[0]
    return Counter(each for each in flows if each.client == client).most_common(1)[0][0]


def _last_of(flow: Flow, claims: Sequence[Claim]) -> Claim:
    of_flow = [each for each in claims if each.flow == flow]
    return max(reversed(of_flow), key=lambda claim: claim.due_at)
