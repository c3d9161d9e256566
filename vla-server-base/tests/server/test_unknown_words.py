"""Words that a policy does not know, told to whoever said them, in every reply with room for it."""

import httpx
import msgspec
import numpy as np
import pytest
from echo_server import echo_app, of_one_colour, wait_until_loaded
from websockets.sync.client import connect

from vla_client.message_pack import pack
from vla_server_base.protocols.json_numpy import dumps
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter

RED = of_one_colour(255, 0, 0)


class OfFewWords(EchoAdapter):
    def unknown_words(self, instruction):
        return tuple(word for word in instruction.split() if word not in ("lift", "the", "cube"))


@pytest.fixture(scope="module")
def url():
    with serving(echo_app(OfFewWords())) as url:
        wait_until_loaded(url)
        yield url


@pytest.mark.parametrize("session", [{}, {"session_id": "arm"}])
def test_predict_names_them_and_says_nothing_where_all_are_known(url, session):
    for instruction, unknown in (("fetch the mug", ["fetch", "mug"]), ("lift the cube", None)):
        reply = httpx.post(f"{url}/predict", json={"instruction": instruction, "image": RED, **session}).json()
        assert reply.get("unknown_words") == unknown


def test_execute_names_them(url):
    body = {"instruction": "fetch the cube", "xml_string": bundled_scene("panda", "tabletop"), "max_steps": 1}
    reply = httpx.post(f"{url}/execute", json=body, timeout=60).json()
    assert reply["unknown_words"] == ["fetch"]


def test_openpi_s_sockets_name_them(url):
    with connect(url.replace("http", "ws", 1)) as socket:
        socket.recv()
        socket.send(pack({"image": np.zeros((8, 8, 3), np.uint8), "prompt": "fetch the cube"}, "bytes_keys"))
        reply = socket.recv()
        assert isinstance(reply, bytes)
        assert msgspec.msgpack.decode(reply)["session"]["unknown_words"] == ["fetch"]


def test_act_names_them_in_its_header(url):
    body = dumps({"image": np.zeros((8, 8, 3), np.uint8), "instruction": "fetch the cube"})
    reply = httpx.post(f"{url}/act", content=body, headers={"Content-Type": "application/json"})
    assert reply.headers["X-VLA-Note"] == "unknown_words: fetch"
