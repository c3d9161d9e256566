"""What the page costs: bytes to load, memory, frames, requests."""

import gzip
import time

import httpx
import pytest
from conftest import OpenPage
from playwright.sync_api import Page, Request, expect
from programs import PolicyServer, wait_until
from robots import INSTRUCTION, Observation, http_robot, tabletop
from run_view import EPISODE_MS, expect_end, state

BOUND = 0.4 * 2**20
"""What `?keep_mb=0.4` allows for images, which is less than the episode below has."""
COUNT_FRAMES = """() => {
  window.framesAsked = 0;
  const ask = window.requestAnimationFrame;
  window.requestAnimationFrame = frame => { window.framesAsked += 1; return ask.call(window, frame); };
}"""


def begin(server: PolicyServer, **fields: object) -> str:
    """Begin an episode as fast as the server can, and return the fragment that shows it."""
    body = {"instruction": INSTRUCTION, "xml_string": tabletop(server.url), "seed": 0, "poses": True, "pace": "fast"}
    reply = httpx.post(f"{server.url}/episodes", json={**body, **fields}, timeout=60)
    assert reply.is_success, reply.text
    return f"#episode={reply.json()['episode_id']}"


def wait_for_polls(page: Page, num: int) -> None:
    """Wait until the page has asked for the server's load this often: it does so every 0.7 s."""
    for _ in range(num):
        page.wait_for_event("response", lambda response: response.url.endswith("/load"))


def test_the_page_is_small(open_page: OpenPage, server: PolicyServer):
    page = open_page(server.url)
    page.wait_for_function("() => window.__console?.framesDrawn > 0", timeout=EPISODE_MS)
    loaded = page.evaluate("() => performance.getEntriesByType('resource').map((entry) => entry.name)")
    files = {url: httpx.get(url).content for url in loaded if url.endswith((".js", ".css"))}
    gzipped = {url.rsplit("/", 1)[1]: len(gzip.compress(content)) for url, content in files.items()}
    assert sum(gzipped.values()) < 270_000
    assert gzipped["console.js"] < 90_000, "what is needed for the first paint; the 3-D view comes after it"


def test_a_long_episode_keeps_a_bounded_number_of_images(open_page: OpenPage, server: PolicyServer):
    link = begin(server, instruction="wave at me", max_steps=120, execution_horizon=4, frames="png")
    page = open_page(server.url, path=f"/?keep_mb=0.4&quality=low{link}")
    page.wait_for_function("() => window.__console?.step > 0", timeout=EPISODE_MS)
    most = 0
    while state(page)["status"] == "running":
        most = max(most, state(page)["keptBytes"])
        page.wait_for_event("response", lambda response: response.url.endswith("/load"), timeout=EPISODE_MS)
    expect_end(page, "max_steps")
    assert state(page)["step"] == 120
    assert 0.5 * BOUND < state(page)["keptBytes"] <= BOUND
    assert most <= BOUND
    page.get_by_label("Time").press("ArrowLeft")
    expect(page.get_by_role("img", name="what primary sees")).to_be_visible()


@pytest.mark.parametrize("rate_hz", [5, 10, 30])
def test_thirty_poses_come_for_each_simulated_second(open_page: OpenPage, server: PolicyServer, rate_hz: int):
    link = begin(server, instruction="wave at me", max_steps=rate_hz, control={"rate_hz": rate_hz}, frames="none")
    page = open_page(server.url, path=f"/?quality=low{link}")
    expect_end(page, "max_steps")
    assert state(page)["time"] == pytest.approx(1, abs=0.03)
    assert state(page)["posesReceived"] == 1 + 30


def test_an_idle_page_draws_nothing(open_page: OpenPage, server: PolicyServer):
    page = open_page(server.url)
    page.wait_for_function("() => window.__console?.framesDrawn > 0", timeout=EPISODE_MS)
    expect(page.get_by_role("img", name="what primary sees")).to_be_visible(timeout=EPISODE_MS)
    page.evaluate(COUNT_FRAMES)
    counts = (-1, -1)
    deadline = time.monotonic() + EPISODE_MS / 1000
    while counts != (counts := frame_counts(page)):
        assert time.monotonic() < deadline, "the page goes on drawing"
        wait_for_polls(page, 3)


def frame_counts(page: Page) -> tuple[int, int]:
    """Frames of the 3-D view, and frames that anything on the page has asked for."""
    return state(page)["framesDrawn"], page.evaluate("() => window.framesAsked")


def test_a_view_that_is_hidden_asks_for_nothing(page: Page, server: PolicyServer, observations: list[Observation]):
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url.removeprefix(server.url))

    with http_robot(server.url, "arm-hidden") as robot:
        robot.act(observations[0])
        page.get_by_role("tab", name="Sessions").click()
        page.get_by_role("button", name="arm-hidden").click()
        expect(page.get_by_alt_text("Camera primary at step 0")).to_be_visible(timeout=EPISODE_MS)
        assert num_watchers(server) == 1
        page.get_by_role("tab", name="Run").click()
        wait_until(lambda: num_watchers(server) == 0)
        page.on("request", note)
        wait_for_polls(page, 4)
        assert "/load" in asked
        assert [path for path in asked if path.startswith("/sessions")] == []


def num_watchers(server: PolicyServer) -> int:
    return httpx.get(f"{server.url}/load").json()["watchers"]
