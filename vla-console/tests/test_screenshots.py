"""The screenshots of the docs, made of real episodes and sessions: each shows what the docs say that it does.

`pytest tests/test_screenshots.py --write-screenshots` writes them; otherwise they are only made and checked.
"""

import io
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import OpenPage
from PIL import Image, ImageChops
from playwright.sync_api import Locator, Page, expect
from programs import PolicyServer
from robots import Observation, client_robot, http_robot
from run_view import EPISODE_MS, PHONE, expect_end, run, scrub
from test_compare import fill, settings, side

DOCS = Path(__file__).parents[2] / "docs" / "console"
MAX_BYTES = 350_000
BEST = "/?quality=high"
"""Shadows and textures, also where the processor draws."""

Keep = Callable[[Page, str], None]


@pytest.fixture
def keep(pytestconfig: pytest.Config) -> Keep:
    """Take a page's screenshot for the docs."""

    def keep(page: Page, name: str) -> None:
        page.evaluate("() => document.activeElement?.blur()")
        webp = io.BytesIO()
        screenshot(page).save(webp, "WEBP", quality=92, method=6)
        assert len(webp.getvalue()) < MAX_BYTES
        if pytestconfig.getoption("--write-screenshots"):
            DOCS.mkdir(exist_ok=True)
            (DOCS / f"{name}.webp").write_bytes(webp.getvalue())

    return keep


def screenshot(shown: Page | Locator) -> Image.Image:
    return Image.open(io.BytesIO(shown.screenshot(animations="disabled"))).convert("RGB")


def num_colours(shown: Page | Locator) -> int:
    return len(screenshot(shown).getcolors(maxcolors=2**24) or [])


def num_different(one: Image.Image, other: Image.Image) -> int:
    """Pixels that clearly differ."""
    return sum(ImageChops.difference(one, other).convert("L").histogram()[24:])


def view(page: Page) -> Locator:
    return page.get_by_label("3-D view").locator("canvas")


def settle(page: Page) -> None:
    """Wait until the 3-D view has drawn what there is to draw."""
    drawn = -1
    while drawn != (drawn := page.evaluate("() => window.__console.framesDrawn")):
        page.wait_for_event("response", lambda response: response.url.endswith("/load"))


def run_some_steps(page: Page, num: int) -> None:
    """Begin an episode and pause it at once, then execute single actions until there are so many."""
    run(page)
    page.wait_for_function("() => window.__console.status === 'running'", timeout=EPISODE_MS)
    page.get_by_role("button", name="Pause", exact=True).dispatch_event("click")
    expect(page.get_by_test_id("state")).to_have_text("paused", timeout=EPISODE_MS)
    while (step := page.evaluate("() => window.__console.step")) < num:
        page.get_by_role("button", name="Step").click()
        page.wait_for_function("step => window.__console.step > step", arg=step, timeout=EPISODE_MS)


def set_option(page: Page, label: str, value: str | bool) -> None:
    """Open the options, change one, and close them."""
    options = page.get_by_text("Options", exact=True)
    options.click()
    if isinstance(value, bool):
        page.get_by_label(label).set_checked(value)
    else:
        page.get_by_label(label).select_option(value)
    options.click()
    page.get_by_role("complementary").evaluate("aside => aside.scrollTo(0, 0)")


def test_the_run_view_in_mid_episode(open_page: OpenPage, server: PolicyServer, keep: Keep):
    page = open_page(server.url, path="/?quality=low", color_scheme="dark")
    run_some_steps(page, 7)
    set_option(page, "Quality", "high")
    scrub(page, 1)
    settle(page)
    expect(page.get_by_test_id("time")).to_have_text("1.0 s")
    for camera in ("primary", "wrist"):
        expect(page.get_by_role("img", name=f"what {camera} sees")).to_be_in_viewport()
    assert num_colours(view(page)) > 2000
    keep(page, "run_dark")
    with_path = screenshot(view(page))
    set_option(page, "Predicted path", False)
    settle(page)
    assert num_different(with_path, screenshot(view(page))) > 100, "the predicted path is in view"


def test_the_run_view_in_the_light_theme(open_page: OpenPage, server: PolicyServer, keep: Keep):
    page = open_page(server.url, path=BEST, color_scheme="light")
    run(page, "put the red cube on the blue cube")
    expect_end(page)
    settle(page)
    assert num_colours(view(page)) > 2000
    header = page.get_by_role("banner").evaluate("header => getComputedStyle(header).backgroundColor")
    assert header == "rgb(255, 255, 255)"
    keep(page, "run_light")


def test_the_run_view_on_a_phone(open_page: OpenPage, server: PolicyServer, keep: Keep):
    page = open_page(server.url, path=BEST, viewport=PHONE, has_touch=True, color_scheme="dark")
    run(page)
    expect_end(page)
    scrub(page, 1.2)
    settle(page)
    assert num_colours(view(page)) > 1000
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_in_viewport()
    expect(page.get_by_role("img", name="what primary sees")).to_be_in_viewport()
    keep(page, "phone")


def test_two_policies_beside_each_other(open_page: OpenPage, both: str, keep: Keep):
    page = open_page(both, path=BEST, color_scheme="dark")
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Run both").click(timeout=EPISODE_MS)
    expect(side(page, "A").get_by_role("status")).to_have_text("success", timeout=EPISODE_MS)
    page.get_by_role("button", name="Stop both").click()
    expect(page.get_by_role("button", name="Stop both")).to_be_disabled(timeout=EPISODE_MS)
    for name in ("A", "B"):
        canvas = side(page, name).locator("canvas")
        expect(canvas).to_be_visible(timeout=EPISODE_MS)
        wait_for_colours(page, canvas)
    expect(side(page, "B")).to_contain_text("random://octo-tiny")
    keep(page, "compare")


def wait_for_colours(page: Page, canvas: Locator, num: int = 1000) -> None:
    for _ in range(EPISODE_MS // 100):
        if num_colours(canvas) >= num:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"the canvas has {num_colours(canvas)} colours, expected {num}")


def test_trials_with_intervals(page: Page, keep: Keep, pytestconfig: pytest.Config):
    num = 12 if pytestconfig.getoption("--write-screenshots") else 2
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("tab", name="Trials").click()
    expect(page.get_by_label("Task")).to_have_value("pick_up_red_cube", timeout=EPISODE_MS)
    fill(page, "Placements", str(num))
    settings(page, "B").get_by_label("Mode").select_option("ensemble")
    settings(page, "B").get_by_label("Weight").fill("3")
    settings(page, "B").get_by_label("Weight").blur()
    page.get_by_role("button", name="Run trials").click()
    expect(page.get_by_text(f"{2 * num} of {2 * num} episodes, done")).to_be_visible(timeout=4 * EPISODE_MS)
    expect(page.get_by_role("table").get_by_role("row")).to_have_count(num + 1)
    expect(page.get_by_role("region", name="Result of side B")).to_contain_text("ensemble 3")
    keep(page, "trials")


def test_robots_that_are_connected(
    open_page: OpenPage, server: PolicyServer, observations: list[Observation], keep: Keep
):
    page = open_page(server.url, color_scheme="dark")
    page.get_by_role("tab", name="Sessions").click()
    with ExitStack() as stack:
        robots = [
            stack.enter_context(client_robot(server.url, "lab-panda-1")),
            stack.enter_context(http_robot(server.url, "lab-panda-2")),
            stack.enter_context(client_robot(server.url, "kitchen")),
        ]
        for robot in robots:
            robot.act(observations[0])
        page.get_by_role("button", name="lab-panda-1").click(timeout=EPISODE_MS)
        expect(page.get_by_alt_text("Camera primary at step 0")).to_be_visible(timeout=EPISODE_MS)
        for images in observations[1:]:
            for robot in robots:
                robot.act(images)
        last = f"step {len(observations) - 1}"
        for name in ("primary", "wrist"):
            image = page.get_by_alt_text(f"Camera {name} at {last}")
            expect(image).to_be_visible(timeout=EPISODE_MS)
            assert num_colours(image) > 500
        for name in ("lab-panda-1", "lab-panda-2", "kitchen"):
            card = page.get_by_role("list", name="Sessions of robots").get_by_role("button", name=name)
            expect(card).to_contain_text(f"step {len(observations)}", timeout=EPISODE_MS)
        expect(page.get_by_text("3 live", exact=True)).to_be_visible()
        keep(page, "sessions")
