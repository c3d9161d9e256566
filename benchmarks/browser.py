"""A real browser, headless and new each time, that shows the console; Chromium or Chrome, as this machine has it."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Playwright, ViewportSize

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
# WebGL drawn by the processor, which Chromium otherwise may refuse, and nothing that asks the network by itself.
FLAGS = ["--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-background-networking"]
VIEWPORT: ViewportSize = {"width": 1280, "height": 800}


@contextmanager
def new_browser(playwright: Playwright) -> Iterator[Browser]:
    """Start a browser that has nothing cached, for the length of a block; end this program where there is none."""
    path = os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        sys.exit("no Chromium or Chrome is on PATH: apt install chromium, or name one in BROWSER_PATH")
    browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
    try:
        yield browser
    finally:
        browser.close()
