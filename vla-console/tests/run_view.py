"""What tests do with the run view, and what they read of it."""

import io

from PIL import Image
from playwright.sync_api import Locator, Page, expect

EPISODE_MS = 120_000
"""How long an episode may take: browsers draw with the processor here, and others use it too."""
PHONE = {"width": 390, "height": 844}


def state(page: Page) -> dict:
    return page.evaluate("() => window.__console")


def final_bodies(page: Page) -> dict[str, list[float]]:
    """Where the free bodies are drawn at the end of what the page has of the episode [m]."""
    time = state(page)["time"]
    scrub(page, time)
    page.wait_for_function(
        "(time) => Math.abs(window.__console.playhead - time) < 1e-6 && window.__console.framesDrawn > 0"
        " && Object.keys(window.__console.bodies).length > 0",
        arg=time,
        timeout=EPISODE_MS,
    )
    return state(page)["bodies"]


def run(page: Page, instruction: str = "pick up the red cube") -> None:
    page.get_by_label("Instruction").fill(instruction)
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_enabled(timeout=EPISODE_MS)
    page.get_by_label("Instruction").press("Enter")


def expect_end(page: Page, reason: str = "success") -> None:
    expect(page.get_by_test_id("state")).to_have_text(reason, timeout=EPISODE_MS)


def scrub(page: Page, time: float) -> None:
    page.get_by_label("Time").evaluate(
        "(input, time) => { input.value = time; input.dispatchEvent(new Event('input', {bubbles: true})); }", time
    )


def set_options(page: Page, **values: str) -> None:
    options = page.get_by_text("Options", exact=True)
    if not page.get_by_label("Max steps").is_visible():
        options.click()
    for label, value in values.items():
        page.get_by_label(label.replace("_", " ")).fill(value)
        page.get_by_label(label.replace("_", " ")).blur()


def place_of_red(view: Locator) -> tuple[float, float]:
    """Where the red cube is drawn: the middle of the red pixels, on the page [px]."""
    image = Image.open(io.BytesIO(view.screenshot())).convert("RGB")
    pixels = image.tobytes()
    red = [
        (index % image.width, index // image.width)
        for index in range(image.width * image.height)
        if pixels[3 * index] > 110 and max(pixels[3 * index + 1 : 3 * index + 3]) < 60
    ]
    assert len(red) > 30, "the red cube is not in view"
    box = view.bounding_box()
    assert box is not None
    return box["x"] + sum(x for x, _ in red) / len(red), box["y"] + sum(y for _, y in red) / len(red)
