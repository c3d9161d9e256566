"""Each task knows its own request, client and session."""

import asyncio
from contextvars import Context, ContextVar

import pytest

from vla_server_base.request_context import begin_request, current_client, current_request_id, current_session

pytestmark = pytest.mark.anyio


async def begin(request_id: str, client: str) -> tuple[str, str]:
    begin_request(request_id, client)
    await asyncio.sleep(0)
    return current_request_id.get(), current_client.get()


async def test_concurrent_requests_keep_their_ids_and_clients():
    requests = [(f"id-{number}", f"10.0.0.{number}") for number in range(5)]
    tasks = [asyncio.create_task(begin(request_id, client)) for request_id, client in requests]
    assert await asyncio.gather(*tasks) == requests


@pytest.mark.parametrize("value", [current_request_id, current_client, current_session])
async def test_outside_of_a_request_there_is_a_dash(value: ContextVar[str]):
    assert Context().run(value.get) == "-"


async def test_a_thread_of_a_request_has_its_id():
    async def answer() -> str:
        begin_request("abc", "10.0.0.1")
        return await asyncio.to_thread(current_request_id.get)

    assert await asyncio.create_task(answer()) == "abc"
