"""JSON of which every item is wrong is refused for what it is, before an object is made for each."""

import json
import time
import tracemalloc

import httpx
import pytest
from echo_server import echo_app, wait_until_healthy
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_server_base.errors import RequestError
from vla_server_base.schemas import json_items
from vla_server_base.schemas.base import Upload
from vla_server_base.schemas.execute import ExecuteRequest
from vla_server_base.schemas.json_items import MAX_ITEMS, check_num_items
from vla_server_base.schemas.predict import PredictRequest
from vla_server_base.server.http_body import body_from_upload
from vla_server_base.server.uvicorn_server import serving

SCENE = b'{"instruction": "go", "xml_string": "<mujoco/>", '
KEYS = b",".join(b'"k%d": 0' % number for number in range(MAX_ITEMS - 20))
WRONG = {
    "unknown fields": SCENE + KEYS + b"}",
    "assets": SCENE + b'"assets": {' + KEYS + b"}}",
    "cameras": SCENE + b'"cameras": {' + KEYS + b"}}",
    "control": SCENE + b'"control": {' + KEYS + b"}}",
    "images": b'{"images": {' + KEYS + b"}}",
    **{
        name: SCENE + opened + b",".join([item] * (MAX_ITEMS // 2 - 20)) + closed
        for name, opened, item, closed in (
            ("qpos", b'"state": {"qpos": [', b"[]", b"]}}"),
            ("mocap", b'"state": {"mocap_pos": [', b"[]", b"]}}"),
            ("history", b'"history": [', b"{}", b"]}"),
            ("success", b'"success": [', b"{}", b"]}"),
            ("joints", b'"robot": {"end_effector": "a", "joints": [', b"{}", b"]}}"),
            ("bodies", b'"success": [{"kind": "near", "bodies": [', b"{}", b"]}]}"),
            ("record", b'"record": [', b"{}", b"]}"),
        )
    },
}


@pytest.mark.parametrize("kind", [PredictRequest, ExecuteRequest])
@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_a_body_of_wrong_items_costs_little_more_than_its_length(body, kind):
    started = time.monotonic()
    tracemalloc.start()
    with pytest.raises(RequestError) as caught:
        body_from_upload(kind, Upload(request=body))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 2**20
    assert time.monotonic() - started < 10
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize("unit", [b"[],", b"{},", b"1,", b'"",', b'"a":1,'])
def test_a_text_of_more_items_is_refused_unread(unit):
    with pytest.raises(RequestError, match=f"more than {MAX_ITEMS} items"):
        check_num_items(b"[" + unit * (4 * 2**20 // len(unit)) + b"1]")


@settings(max_examples=50)
@given(st.recursive(st.text() | st.just(',[{\\"'), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_only_what_stands_outside_of_quotation_marks_counts(content):
    text = json.dumps([content] * 5, ensure_ascii=False).encode()
    bare = json.dumps(without_texts([content] * 5))
    num_items = sum(bare.count(each) for each in ",[{")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_items, "_SLICE_BYTES", 7)
        patch.setattr(json_items, "MAX_ITEMS", num_items)
        assert not json_items._has_too_many(text)
        patch.setattr(json_items, "MAX_ITEMS", num_items - 1)
        assert json_items._has_too_many(text)


def without_texts(content):
    if isinstance(content, list):
        return [without_texts(item) for item in content]
    if isinstance(content, dict):
        return {str(number): without_texts(value) for number, value in enumerate(content.values())}
    return ""


def test_a_scene_s_text_may_have_any_number_of_commas():
    check_num_items(json.dumps({"xml_string": '<a b="1,2">' * MAX_ITEMS}).encode())


def test_others_are_answered_while_four_megabytes_of_wrong_items_are_refused():
    with serving(echo_app(max_body_mb=8)) as url:
        wait_until_healthy(url)
        body = b'{"instruction": "x", "image": "", "history": [' + b"1," * 2**21 + b"1]}"
        answer = httpx.post(f"{url}/predict", content=body, headers={"Content-Type": "application/json"}, timeout=60)
        assert answer.status_code == 422
        assert answer.json()["error"]["message"] == f"the JSON holds more than {MAX_ITEMS} items"
        assert httpx.get(f"{url}/health").status_code == 200
