"""What a page asks of a server for an episode that it shows and steers."""

import json

import httpx

from vla_server_base.scenes.library import bundled_scene

EPISODE = {
    "instruction": "reach",
    "xml_string": bundled_scene("panda", "tabletop"),
    "seed": 3,
    "max_steps": 3,
    "pace": "fast",
}
Events = list[tuple[int, str, dict]]


class Page:
    """One client of a server."""

    def __init__(self, client: httpx.Client):
        self.client = client

    def begin(self, **fields) -> str:
        response = self.client.post("/episodes", json={**EPISODE, **fields})
        assert response.status_code == 201, response.text
        return response.json()["episode_id"]

    def status(self, episode: str) -> dict:
        return self.client.get(f"/episodes/{episode}").json()

    def steer(self, episode: str, *, expected: int = 200, **fields) -> dict:
        response = self.client.patch(f"/episodes/{episode}", json=fields)
        assert response.status_code == expected, response.text
        return response.json() if expected == 200 else response.json()["error"]

    def events(self, episode: str, until: str | None = None, **options) -> Events:
        """All events, or those up to the first of a name: then the connection is cut."""
        with self.client.stream("GET", f"/episodes/{episode}/events", **options) as response:
            assert response.status_code == 200
            return read_events(response, until)

    def end(self, episode: str) -> dict:
        return self.events(episode)[-1][2]


def followed(response: httpx.Response):
    """Each event when it comes: its id, name and content."""
    fields = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "event" in fields:
            yield int(fields["id"]), fields["event"], json.loads(fields["data"])
            fields = {}


def read_events(response: httpx.Response, until: str | None = None) -> Events:
    events = []
    for event in followed(response):
        events.append(event)
        if event[1] == until:
            break
    return events


def names(events: Events) -> list[str]:
    return [name for _, name, _ in events]


def steps(events: Events) -> list[dict]:
    return [data for _, name, data in events if name == "step"]
