"""A real server, and a real browser that shows its page.

Where no browser is found the tests of the page are skipped, and the end of the run says so; with CI=true they fail.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright
from programs import PolicyServer, console_program, policy_server
from robots import Observation, episode_images

BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
"""Names on PATH; BROWSER_PATH names another."""

# The last one has WebGL drawn by the processor, which Chromium otherwise may refuse.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",
    # The server protects itself also where the browser does not.
    "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
    # A name of an attacker's that leads to this machine (DNS rebinding).
    "--host-resolver-rules=MAP rebound.example 127.0.0.1",
]
MISSING = "no Chromium or Chrome is on PATH: the console's page was not tested (apt install chromium)"
VIEWPORT = {"width": 1280, "height": 800}

OpenPage = Callable[..., Page]

# Longer than Playwright's 5 s: the processor draws WebGL here, and has other work too.
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


def browser_path() -> str | None:
    return os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-screenshots", action="store_true", help="write those of the docs: docs/console/*.webp")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if browser_path() is None:
        terminalreporter.write_sep("!", MISSING, yellow=True, bold=True)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyServer]:
    """The server that most tests share."""
    # With models that requests may change: the attacker's page finds every door that a server can have.
    with policy_server(tmp_path_factory.mktemp("server") / "log.txt", VLA_MODELS="on") as server:
        yield server


@pytest.fixture(scope="session")
def rival(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyServer]:
    """A server with another policy: Octo with random weights."""
    log = tmp_path_factory.mktemp("rival") / "log.txt"
    with policy_server(log, OCTO_MODEL="random://octo-tiny") as rival:
        yield rival


@pytest.fixture(scope="session")
def both(server: PolicyServer, rival: PolicyServer) -> Iterator[str]:
    """The address of a console that shows both servers."""
    with console_program(server.url, rival.url) as (url, _):
        yield url


@pytest.fixture(scope="session")
def observations(server: PolicyServer) -> list[Observation]:
    """What the cameras see in an episode, step by step."""
    return episode_images(server.url, num_steps=10)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = browser_path()
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def problems() -> list[str]:
    """What browsers report: errors in the page's console, and requests to other origins. It is empty at the end.

    A test that causes errors on purpose, such as by ending the server, clears it.
    """
    return []


@pytest.fixture
def open_page(browser: Browser, problems: list[str]) -> Iterator[OpenPage]:
    """Open a tab with a server's page: `open_page(url, path="/#...", viewport=..., **options of the context)`."""
    contexts: list[BrowserContext] = []

    def open_page(url: str, path: str = "/", **options: Any) -> Page:
        context = browser.new_context(**{"base_url": url, "viewport": VIEWPORT, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        watch(page, url, problems)
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def page(open_page: OpenPage, server: PolicyServer) -> Page:
    """A tab with the page of the server that tests share."""
    return open_page(server.url)


def watch(page: Page, url: str, problems: list[str]) -> None:
    """Note the errors of a page, and its requests that leave the origin."""

    def note_message(message: ConsoleMessage) -> None:
        if message.type == "error":
            problems.append(f"{message.text} ({message.location.get('url')})")

    def note_request(request: Request) -> None:
        if not request.url.startswith((f"{url}/", "data:", "blob:")):
            problems.append(f"a request leaves the origin: {request.url}")

    page.on("console", note_message)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", note_request)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where a server that a test starts itself writes its log."""
    return tmp_path / "log.txt"
