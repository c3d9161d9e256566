"""The page in a real browser: it loads, draws, and keeps to its origin."""

import httpx
import pytest
from conftest import PATIENCE_MS, OpenPage
from playwright.sync_api import Page, expect
from programs import PolicyServer, console_program

RENDERER = """() => {
  const gl = document.createElement("canvas").getContext("webgl2");
  return gl && gl.getParameter(gl.getExtension("WEBGL_debug_renderer_info").UNMASKED_RENDERER_WEBGL);
}"""


def wait_for_problem(page: Page, problems: list[str]) -> None:
    """Have the browser tell what it reports: a busy one does so long after the page's code has run."""
    for _ in range(PATIENCE_MS // 50):
        if problems:
            return
        page.wait_for_timeout(50)


def test_the_page_shows_the_server_that_sends_it(page: Page):
    expect(page).to_have_title("VLA console")
    expect(page.get_by_text("connected", exact=True)).to_be_visible(timeout=30_000)
    expect(page.get_by_text("bundled://tabletop").first).to_be_visible()


def test_this_browser_draws_webgl(page: Page):
    assert page.evaluate(RENDERER)


def test_a_server_elsewhere_is_shown_too(open_page: OpenPage, server: PolicyServer):
    with console_program(server.url) as (url, _):
        page = open_page(url)
        expect(page.get_by_text("bundled://tabletop").first).to_be_visible()
        page.close()


def test_the_page_can_ask_no_other_origin(page: Page, problems: list[str]):
    answer = page.evaluate("() => fetch('http://127.0.0.1:9/').then(() => 'answered', (error) => error.name)")
    assert answer == "TypeError"
    wait_for_problem(page, problems)
    assert any("Content Security Policy" in problem for problem in problems)
    problems.clear()


@pytest.mark.parametrize("noticed", ["console.error('wrong')", "setTimeout(() => { throw new Error('wrong') })"])
def test_an_error_of_the_page_is_noticed(page: Page, problems: list[str], noticed: str):
    page.evaluate(noticed)
    wait_for_problem(page, problems)
    assert "wrong" in problems.pop()


def test_the_link_of_the_demo_shows_its_episode(open_page: OpenPage, server: PolicyServer):
    scene = httpx.get(f"{server.url}/scenes/panda/tabletop").text
    body = {"instruction": "pick up the red cube", "xml_string": scene, "seed": 0, "max_steps": 4, "poses": True}
    reply = httpx.post(f"{server.url}/episodes", json=body, timeout=60)
    page = open_page(server.url, f"/#episode={reply.json()['episode_id']}")
    page.wait_for_function("() => window.__console?.step === 4", timeout=60_000)
    expect(page.get_by_label("Instruction")).to_have_value("pick up the red cube")
