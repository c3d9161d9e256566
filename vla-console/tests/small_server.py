"""A server behind the console that says what reached it, and sends events when a test wants them."""

import asyncio
import hashlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import uvicorn
from programs import free_port, wait_until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

PART = bytes(range(256)) * 4096
NUM_PARTS = 80


class SmallServer:
    """`send_next` lets the second event go; `reader_left` is set when the reader of the events has gone."""

    def __init__(self, port: int | None = None):
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.send_next, self.reader_left = threading.Event(), threading.Event()
        self.app = Starlette(
            routes=[
                Route("/health", lambda _: JSONResponse({"model": "small"}, 503)),
                Route("/events", self._events),
                Route("/refusal", self._refusal),
                Route("/large", self._large),
                Route("/page", lambda _: HTMLResponse("<script>alert(1)</script>")),
                Route("/{path:path}", self._request, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
            ]
        )

    async def _request(self, request: Request) -> Response:
        digest, num_bytes = hashlib.sha256(), 0
        async for part in request.stream():
            digest.update(part)
            num_bytes += len(part)
        return JSONResponse(
            {
                "method": request.method,
                "path": request.scope["raw_path"].decode(),
                "query": request.scope["query_string"].decode(),
                "headers": dict(request.headers),
                "num_bytes": num_bytes,
                "sha256": digest.hexdigest(),
            }
        )

    async def _events(self, _request: Request) -> Response:
        return StreamingResponse(self._sent_events(), media_type="text/event-stream")

    async def _sent_events(self) -> AsyncIterator[bytes]:
        try:
            yield b"data: first\n\n"
            while not self.send_next.is_set():
                await asyncio.sleep(0.01)
            yield b"data: second\n\n"
        finally:
            self.reader_left.set()

    async def _large(self, _request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for _ in range(NUM_PARTS):
                yield PART

        return StreamingResponse(parts())

    async def _refusal(self, _request: Request) -> Response:
        return JSONResponse({"error": {"code": "overloaded"}}, 503, {"Retry-After": "1", "Set-Cookie": "a=b"})


@contextmanager
def small_server(port: int | None = None) -> Iterator[SmallServer]:
    """Serve it on a thread; at the end its connections are cut."""
    server = SmallServer(port)
    config = uvicorn.Config(server.app, log_config=None, timeout_graceful_shutdown=0)
    running = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", server.port))
    thread = threading.Thread(target=running.run, args=([listening],))
    thread.start()
    wait_until(lambda: running.started)
    try:
        yield server
    finally:
        running.should_exit = True
        thread.join()
