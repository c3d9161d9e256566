"""multipart/form-data: bytes in, parts out."""

import contextlib

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_server_base.errors import RequestError
from vla_server_base.schemas.base import Upload
from vla_server_base.server import multipart
from vla_server_base.server.multipart import upload_from_multipart

BOUNDARY = "b0undary"
HEADER = f"multipart/form-data; boundary={BOUNDARY}"


def body(*parts: tuple[str, bytes], end: str = "--") -> bytes:
    """A body of (Content-Disposition's parameters, content)."""
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; %s\r\nContent-Type: application/octet-stream\r\n\r\n"
    written = b"".join(head.encode() % said.encode() + content + b"\r\n" for said, content in parts)
    return written + f"--{BOUNDARY}{end}\r\n".encode()


REQUEST = ('name="request"', b"{}")


def test_all_parts_are_told_apart():
    assets = [('name="assets"; filename="a/b.obj"', b"\r\n--b0undar"), ('name="assets"; filename="ü c.png"', b"")]
    raw = body(REQUEST, ('name="xml"', b"<mujoco/>"), ('name=scene; filename="s.mjz"', b"PK"), *assets)
    assert upload_from_multipart(raw, HEADER) == Upload(
        request=b"{}", xml=b"<mujoco/>", scene=b"PK", assets={"a/b.obj": b"\r\n--b0undar", "ü c.png": b""}
    )


@given(st.dictionaries(st.from_regex(r"[a-z]{1,9}\.obj", fullmatch=True), st.binary(max_size=2000), max_size=5))
def test_whatever_a_client_library_writes_comes_out_again(assets):
    files = [("request", (None, b"{}", "application/json"))]
    files += [("assets", (name, content)) for name, content in assets.items()]
    sent = httpx.Request("POST", "http://localhost", files=files)
    upload = upload_from_multipart(sent.read(), sent.headers["content-type"])
    assert upload == Upload(request=b"{}", assets=assets)


def test_pictures_and_fields_are_parts_of_their_own():
    raw = body(('name="image"; filename="a.jpg"', b"\xff\xd8"), ('name="instruction"', "größer".encode()))
    assert upload_from_multipart(raw, HEADER) == Upload(
        request=b"{}", fields={"image": "/9g=", "instruction": "größer"}
    )


def test_a_part_of_many_chunks_is_whole():
    content = bytes(range(256)) * 8192
    raw = body(REQUEST, ('name="assets"; filename="a"', content), ('name="assets"; filename="b"', content[:-1]))
    assert upload_from_multipart(raw, HEADER).assets == {"a": content, "b": content[:-1]}


@pytest.mark.parametrize(
    ("raw", "header", "said"),
    [
        (body(REQUEST), "multipart/form-data", "names no boundary"),
        (body(REQUEST), "multipart/form-data; boundary=", "names no boundary"),
        (body(REQUEST), 'multipart/form-data; boundary=""', "names no boundary"),
        (body(REQUEST), "multipart/form-data; boundary=other", "malformed"),
        (body(REQUEST), f"multipart/form-data; boundary={'b' * 1000}", "malformed"),
        (b"{}", HEADER, "malformed"),
        (b"", HEADER, "cut off"),
        (body(REQUEST, end="")[:-2], HEADER, "cut off"),
        (body(REQUEST)[:-20], HEADER, "cut off"),
        (body(), HEADER, "'request' is missing"),
        (body(REQUEST, REQUEST), HEADER, "'request' is given twice"),
        (body(REQUEST, *2 * [('name="assets"; filename="a.obj"', b"")]), HEADER, "'a.obj' is given twice"),
        (body(REQUEST, ('name="assets"', b"")), HEADER, "no file name"),
        (body(REQUEST, ('name="mesh"; filename="a.obj"', b"")), HEADER, "unknown part 'mesh'"),
        (body(REQUEST, ("", b"")), HEADER, "unknown part ''"),
        (body(('name="image"; filename="a.jpg"', b""), ('name="image"', b"")), HEADER, "'image' is given twice"),
        (body(('name="image"', b"\xff\xd8")), HEADER, "'image' is not UTF-8 text"),
        (f"--{BOUNDARY}\r\n\r\n{{}}\r\n--{BOUNDARY}--\r\n".encode(), HEADER, "unknown part ''"),
        (f"--{BOUNDARY}\r\nno header\r\n\r\n--{BOUNDARY}--\r\n".encode(), HEADER, "malformed"),
        (body((f'name="{"n" * 5000}"', b"")), HEADER, "malformed"),
        (body(REQUEST).replace(b"request", b"\xff"), HEADER, "not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_body_is_told(raw, header, said):
    with pytest.raises(RequestError, match=said):
        upload_from_multipart(raw, header)


def test_too_many_parts_are_refused(monkeypatch):
    monkeypatch.setattr(multipart, "MAX_PARTS", 3)
    files = [(f'name="assets"; filename="{number}"', b"") for number in range(3)]
    assert len(upload_from_multipart(body(REQUEST, *files[:2]), HEADER).assets) == 2
    with pytest.raises(RequestError, match="more than 3 parts"):
        upload_from_multipart(body(REQUEST, *files), HEADER)


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 400))
def test_a_damaged_body_is_answered_or_refused_and_nothing_else(noise, start, length):
    whole = body(REQUEST, ('name="assets"; filename="a.obj"', b"mesh"))
    with contextlib.suppress(RequestError):
        assert upload_from_multipart(whole[:start] + noise + whole[start + length :], HEADER).request is not None
