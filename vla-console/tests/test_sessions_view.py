"""The sessions view: robots that are connected now are listed and watched, and notice nothing of it."""

from conftest import OpenPage
from playwright.sync_api import Locator, Page, Request, expect
from programs import PolicyServer
from robots import INSTRUCTION, Observation, client_robot, http_robot

WAIT_MS = 60_000


def open_sessions(page: Page) -> None:
    page.get_by_role("tab", name="Sessions").click()
    expect(page.get_by_role("heading", name="Live sessions")).to_be_visible()


def card(page: Page, session: str) -> Locator:
    return page.get_by_role("list", name="Sessions of robots").get_by_role("button", name=session)


def watch(page: Page, session: str) -> Locator:
    """Open a session, and return the part of the page that shows it, once its stream is open."""
    card(page, session).click(timeout=WAIT_MS)
    detail = page.get_by_role("article", name=f"Session {session}")
    expect(detail.get_by_role("status")).to_have_text("live", timeout=WAIT_MS)
    return detail


def test_robots_of_both_protocols_are_listed(page: Page, server: PolicyServer, observations: list[Observation]):
    open_sessions(page)
    with http_robot(server.url, "arm-http") as one, client_robot(server.url, "arm-client") as other:
        for images in observations[:2]:
            one.act(images)
            other.act(images)
        one.act(observations[2])
        for session, protocol, step in (("arm-http", "http", 3), ("arm-client", "openpi", 2)):
            expect(card(page, session)).to_contain_text(f"{protocol} · step {step}", timeout=WAIT_MS)
            expect(card(page, session)).to_contain_text(INSTRUCTION)
            expect(card(page, session)).to_contain_text(" ms")
        expect(page.get_by_text("2 live", exact=True)).to_be_visible()


def test_a_watched_session_shows_each_step(page: Page, server: PolicyServer, observations: list[Observation]):
    open_sessions(page)
    with client_robot(server.url, "arm-seen") as robot:
        robot.act(observations[0])
        detail = watch(page, "arm-seen")
        for step, images in enumerate(observations[1:4], start=1):
            robot.act(images)
            for camera in images:
                expect(detail.get_by_alt_text(f"Camera {camera} at step {step}")).to_be_visible(timeout=WAIT_MS)
        assert drawn_size(detail.get_by_alt_text("Camera primary")) > (32, 32)
        expect(detail.get_by_text(INSTRUCTION)).to_be_visible()
        expect(detail.get_by_role("figure", name="Translation [m]")).to_be_visible()
        expect(detail.get_by_role("region", name="Latency").locator("header")).to_contain_text(" ms")
        expect(detail.get_by_text("The policy was asked at this step.")).to_be_visible()


def drawn_size(image: Locator) -> tuple[int, int]:
    """The pixels of the image that the browser decoded."""
    return tuple(image.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])"))


def test_a_watcher_can_change_nothing(page: Page, server: PolicyServer, observations: list[Observation]):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(method_and_path(request)))
    open_sessions(page)
    with http_robot(server.url, "lab-2/arm") as robot:
        robot.act(observations[0])
        detail = watch(page, "lab-2/arm")
        robot.act(observations[1])
        expect(detail.get_by_alt_text("Camera primary at step 1")).to_be_visible(timeout=WAIT_MS)
        assert detail.locator("button, input, select, textarea, a").count() == 0
    expect(card(page, "lab-2/arm")).to_contain_text("ended", timeout=WAIT_MS)
    assert "GET /sessions/lab-2/arm/events" in asked
    assert all(each.startswith("GET ") for each in asked if "/sessions" in each)


def method_and_path(request: Request) -> str:
    return f"{request.method} /{request.url.split('/', 3)[3]}"


def test_a_session_that_ends_is_shown_as_ended(page: Page, server: PolicyServer, observations: list[Observation]):
    open_sessions(page)
    with http_robot(server.url, "arm-gone") as robot:
        robot.act(observations[0])
        detail = watch(page, "arm-gone")
    expect(detail.get_by_role("status")).to_have_text("ended", timeout=WAIT_MS)
    expect(card(page, "arm-gone")).to_contain_text("ended", timeout=WAIT_MS)
    expect(detail.get_by_alt_text("Camera primary at step 0")).to_be_visible()
    expect(detail.get_by_role("alert")).to_have_count(0)


def test_a_robot_does_the_same_whether_it_is_watched_or_not(
    open_page: OpenPage, server: PolicyServer, observations: list[Observation]
):
    with client_robot(server.url, "arm-alone") as robot:
        alone = [robot.act(images) for images in observations]
    page = open_page(server.url)
    open_sessions(page)
    with client_robot(server.url, "arm-watched") as robot:
        watched = [robot.act(observations[0])]
        detail = watch(page, "arm-watched")
        watched += [robot.act(images) for images in observations[1:]]
        last = len(observations) - 1
        expect(detail.get_by_alt_text(f"Camera primary at step {last}")).to_be_visible(timeout=WAIT_MS)
    assert watched == alone
