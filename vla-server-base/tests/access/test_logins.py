"""A browser's login: a cookie that stands for a key, ends with it, and moves nothing for another page."""

import httpx
import pytest

from vla_server_base.access.keys import Key, digest_of
from vla_server_base.access.logins import LOGIN_S, Logins

KEY = Key(name="ann", digest=digest_of("secret"))
OWN, EVIL = "{url}", "https://evil.example"


@pytest.fixture
def browser(keyed):
    """A client with a login, without a key."""
    with httpx.Client(base_url=keyed.url) as client:
        reply = client.post("/login", headers={"Authorization": f"Bearer {keyed.secrets['ann']}"})
        assert reply.json() == {"name": "ann", "priority": "human", "expires_s": LOGIN_S}
        yield client


def test_a_login_reads_what_its_key_may(browser, keyed):
    keyed.predict("ann", "a")
    keyed.predict("arm-1", "b")
    assert [each["id"] for each in browser.get("/sessions").json()["sessions"]] == ["a"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Origin": OWN}, 404), ({"Sec-Fetch-Site": "same-origin"}, 404), ({}, 403), ({"Origin": EVIL}, 403)],
)
def test_a_login_changes_something_for_the_servers_own_page_alone(browser, keyed, headers, status):
    headers = {name: value.format(url=keyed.url) for name, value in headers.items()}
    assert browser.delete("/sessions/none", headers=headers).status_code == status


def test_a_login_ends_with_its_key(browser, keyed):
    keyed.revoke("ann")
    assert browser.get("/sessions").status_code == 401


def test_a_copy_of_the_cookie_ends_with_the_logout(browser, keyed):
    copied = dict(browser.cookies)
    assert browser.post("/logout", headers={"Origin": keyed.url}).status_code == 200
    assert httpx.get(f"{keyed.url}/sessions", cookies=copied).status_code == 401


def test_a_login_needs_the_key_itself_and_does_not_prolong_itself(browser, keyed):
    assert browser.post("/login", headers={"Origin": keyed.url}).status_code == 401


def test_a_cookie_is_bounded_in_time_and_cannot_be_made_by_others():
    now = 1000.0
    logins = Logins(clock=lambda: now)
    cookie = logins.begin(KEY)
    assert logins.digest(cookie) == KEY.digest
    assert Logins().digest(cookie) is None, "another server's"
    changed = ("A" if cookie[0] != "A" else "B") + cookie[1:]
    for wrong in (changed, cookie[:-4], "", "é", "a" * 1000):
        assert logins.digest(wrong) is None
    now += LOGIN_S
    assert logins.digest(cookie) is None
