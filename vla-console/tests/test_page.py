"""The page in a real browser: it loads, draws, and keeps to its origin."""

import pytest
from conftest import OpenPage
from playwright.sync_api import Page, expect
from programs import PolicyServer, console_program

RENDERER = """() => {
  const gl = document.createElement("canvas").getContext("webgl2");
  return gl && gl.getParameter(gl.getExtension("WEBGL_debug_renderer_info").UNMASKED_RENDERER_WEBGL);
}"""


def test_the_page_shows_the_server_that_sends_it(page: Page):
    expect(page).to_have_title("VLA console")
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
    assert any("Content Security Policy" in problem for problem in problems)
    problems.clear()


@pytest.mark.parametrize("noticed", ["console.error('wrong')", "setTimeout(() => { throw new Error('wrong') })"])
def test_an_error_of_the_page_is_noticed(page: Page, problems: list[str], noticed: str):
    page.evaluate(noticed)
    page.wait_for_timeout(100)
    assert "wrong" in problems.pop()
