"""A server that gets no more memory: what does not fit is refused, what does is answered."""

import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from echo_server import encoded, of_one_colour, wait_until_healthy
from test_uvicorn import SERVE, running

LARGE = {"instruction": "go", "image": encoded(np.zeros((4000, 4000, 3), np.uint8)), "seed": 0}
SMALL = {"instruction": "go", "image": of_one_colour(255, 0, 0), "seed": 0}
LEFT_BYTES = 50 * 2**20
"""Less than the image's 16 million pixels take: 64 MB."""


def asked(url: str, body: dict) -> httpx.Response:
    return httpx.post(f"{url}/predict", json=body, timeout=60)


def test_without_memory_a_large_image_is_refused_with_503_and_small_ones_are_answered(folder):
    with running(folder, *SERVE) as (url, process, _), ThreadPoolExecutor(12) as threads:
        wait_until_healthy(url)
        assert {each.status_code for each in threads.map(asked, [url] * 24, [SMALL] * 24)} == {200}
        num_pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0])
        limit = num_pages * resource.getpagesize() + LEFT_BYTES
        resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))
        refused = asked(url, LARGE)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert refused.headers["retry-after"]
        assert asked(url, SMALL).status_code == 200
