"""Whose requests /metrics counts: by the names of keys and by class, whatever else a client sends."""

from collections import Counter
from contextlib import closing

import httpx
import pytest
from exposed_metrics import samples
from keyed_server import KeyedServer, keyed_server
from test_keys_of_protocols import RED, called

from vla_client.errors import VLAError
from vla_server_base.access.keys import new_secret
from vla_server_base.testing.protocol_robots import Gr00tRobot, OpenpiRobot, ProtocolRobot, bearer


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that answers one request of each key, and refuses the next ones."""
    with keyed_server(tmp_path_factory.mktemp("by_key"), max_rate=0.001) as server:
        yield server


def counted(server: KeyedServer, **wanted: str) -> Counter[tuple[str, str, str]]:
    """How many requests were counted: by client, class and status."""
    found: Counter[tuple[str, str, str]] = Counter()
    for each in samples(server.url, bearer(server.secrets["ann"])):
        if each.name == "vla_requests_total" and wanted.items() <= each.labels.items():
            found[each.labels["client"], each.labels["class"], each.labels["status"]] += int(each.value)
    return found


def test_the_accepted_and_refused_requests_of_a_key_are_counted_by_class(server):
    with server.client("arm-1") as client:
        for priority in ("robot", "robot", "batch"):
            client.post("/predict", json={"instruction": "go"}, headers={"X-Priority": priority})
    for secret in ("x", "vla_wrong", new_secret()):
        httpx.post(f"{server.url}/predict", json={"instruction": "go"}, headers=bearer(secret))
    assert counted(server, client="key:arm-1") == {
        ("key:arm-1", "robot", "422"): 1,
        ("key:arm-1", "robot", "429"): 1,
        ("key:arm-1", "batch", "429"): 1,
    }
    assert counted(server, status="401") == {("", "robot", "401"): 3}


def act_twice(robot: ProtocolRobot) -> None:
    with closing(robot):
        robot.begin(0)
        robot.act(RED, "go")
        with pytest.raises((VLAError, ValueError, KeyError)):
            robot.act(RED, "go")


def test_messages_of_other_protocols_are_counted_by_key_and_class(server):
    act_twice(OpenpiRobot(server.url, server.secrets["night"]))
    act_twice(Gr00tRobot(server.zmq_port, server.secrets["ann"]))
    called(server.lerobot_port, ("authorization", f"Bearer {server.secrets['arm-2']}"))
    assert counted(server, protocol="openpi") == {("key:night", "batch", status): 1 for status in ("200", "429")}
    assert counted(server, protocol="gr00t", route="get_action") == {
        ("key:ann", "human", status): 1 for status in ("200", "429")
    }
    assert counted(server, protocol="lerobot") == {("key:arm-2", "robot", "200"): 1}


def test_no_secret_is_in_the_metrics(server):
    text = httpx.get(f"{server.url}/metrics", headers=bearer(server.secrets["ann"])).text
    assert "key:ann" in text
    assert not [name for name, secret in server.secrets.items() if secret in text]
