"""A server with API keys: a person types one once, and no other page gains by it."""

from collections.abc import Iterator

import pytest
from conftest import OpenPage
from playwright.sync_api import Page, expect
from programs import PolicyServer, console_program, policy_server
from test_security import FETCH, NEEDS_NO_PREFLIGHT, SOCKET, attacker, described, filled

__all__ = ["attacker"]

KEY, OTHER = "vla_" + "a" * 43, "vla_" + "b" * 43
LOG_IN = """([url, key]) => fetch(url, {
  method: "POST", credentials: "include", headers: {Authorization: `Bearer ${key}`},
}).then(reply => reply.status, error => error.name)"""


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyServer]:
    log = tmp_path_factory.mktemp("keyed") / "log.txt"
    with policy_server(log, VLA_API_KEYS=f"ann:human={KEY} bob:human={OTHER}") as server:
        yield server


@pytest.fixture
def keyed_page(open_page: OpenPage, keyed: PolicyServer, problems: list[str]) -> Iterator[Page]:
    """A tab with the server's page, before anybody has logged in; browsers report each 401 as an error."""
    yield open_page(keyed.url)
    problems[:] = [each for each in problems if "401" not in each and "403" not in each]


def log_in(page: Page, key: str = KEY) -> None:
    page.get_by_label("API key of").fill(key)
    page.get_by_role("dialog").get_by_role("button", name="Log in").click()


def is_connected(page: Page) -> None:
    expect(page.get_by_test_id("connection")).to_have_text("connected")
    expect(page.get_by_role("dialog", name="Log in")).to_have_count(0)


def test_a_key_is_typed_once(keyed_page: Page):
    log_in(keyed_page)
    is_connected(keyed_page)
    keyed_page.reload()
    is_connected(keyed_page)
    keyed_page.get_by_role("tab", name="Sessions").click()
    expect(keyed_page.get_by_role("heading", name="Live sessions")).to_be_visible()


def test_no_script_can_read_the_key(keyed_page: Page):
    log_in(keyed_page)
    is_connected(keyed_page)
    (cookie,) = keyed_page.context.cookies()
    assert (cookie.get("httpOnly"), cookie.get("sameSite")) == (True, "Strict")
    assert KEY not in str(cookie)
    stored = keyed_page.evaluate("() => document.cookie + JSON.stringify({...localStorage}) + location.href")
    assert KEY not in stored
    assert "vla_login" not in stored


def test_a_wrong_key_is_said_and_another_may_be_typed(keyed_page: Page):
    log_in(keyed_page, "vla_wrong")
    expect(keyed_page.get_by_role("dialog").get_by_role("alert")).to_contain_text("not one of this server's")
    log_in(keyed_page)
    is_connected(keyed_page)


def test_who_logs_out_is_asked_again(keyed_page: Page):
    log_in(keyed_page)
    (cookie,) = keyed_page.context.cookies()
    keyed_page.get_by_role("button", name="Log out ann").click()
    expect(keyed_page.get_by_role("dialog", name="Log in")).to_be_visible()
    assert keyed_page.context.cookies() == []
    headers = {"Cookie": f"{cookie.get('name')}={cookie.get('value')}"}
    assert keyed_page.request.get("/sessions", headers=headers).status == 401, "a copy of the cookie has ended too"


def test_an_episode_is_watched_with_a_login(keyed_page: Page):
    log_in(keyed_page)
    is_connected(keyed_page)
    keyed_page.get_by_role("button", name="Run", exact=True).click()
    expect(keyed_page.get_by_role("slider", name="Time")).to_be_visible()


def test_a_login_moves_nothing_for_another_page(keyed_page: Page, keyed: PolicyServer, attacker: str):
    log_in(keyed_page)
    is_connected(keyed_page)
    # Another port of the same host: to the browser that is the same site, so it sends the cookie.
    foreign = keyed_page.context.new_page()
    foreign.goto(attacker)
    for method, path in described(keyed.url, Authorization=f"Bearer {KEY}"):
        if method in NEEDS_NO_PREFLIGHT:
            url = keyed.url + filled(path)
            with foreign.expect_response(url) as response:
                assert foreign.evaluate(FETCH, [url, method, "text/plain", None, "no-cors"]) == "opaque"
            assert response.value.status == 403, path
            if method == "HEAD":  # the only one of which a browser that blocks the answer shows all headers
                assert "vla_login" in response.value.request.all_headers()["cookie"]
    assert foreign.evaluate(SOCKET, keyed.url.replace("http", "ws", 1)) == "closed"
    assert keyed_page.request.get("/sessions").status == 200, "nobody was logged out"


def test_another_page_cannot_log_a_browser_in(keyed_page: Page, keyed: PolicyServer, attacker: str):
    foreign = keyed_page.context.new_page()
    foreign.goto(attacker)
    request = [f"{keyed.url}/login", OTHER]
    assert foreign.evaluate(LOG_IN, request) == "TypeError"
    assert keyed_page.context.cookies() == []
    assert keyed_page.evaluate(LOG_IN, request) == 200, "the server's own page may"
    assert len(keyed_page.context.cookies()) == 1


def test_a_console_elsewhere_passes_logins_on(open_page: OpenPage, keyed: PolicyServer, problems: list[str]):
    with console_program(keyed.url) as (url, _):
        page = open_page(url)
        log_in(page, OTHER)
        is_connected(page)
        (cookie,) = page.context.cookies()
        assert (cookie.get("name", "")[:8], cookie.get("path")) == ("console0", "/servers/0/")
        page.get_by_role("button", name="Log out bob").click()
        expect(page.get_by_role("dialog", name="Log in")).to_be_visible()
        page.close()
    problems.clear()


def test_a_console_with_a_key_asks_for_none(open_page: OpenPage, keyed: PolicyServer):
    with console_program(keyed.url, "--api-key", KEY) as (url, _):
        page = open_page(url)
        is_connected(page)
        page.close()
