"""Somebody who watches a session, as a page does."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

Event = tuple[str, dict]


@contextmanager
def watching(url: str, session_id: str) -> Iterator[Iterator[Event]]:
    """The events of a session: each its name and its content."""
    with httpx.stream("GET", f"{url}/sessions/{session_id}/events", timeout=30) as response:
        assert response.status_code == 200, response.read()
        yield events_in(response.iter_lines())


def events_in(lines: Iterator[str]) -> Iterator[Event]:
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def next_step(events: Iterator[Event]) -> dict:
    """The content of the next event, which is a step."""
    name, content = next(events)
    assert name == "step", (name, content)
    return content
