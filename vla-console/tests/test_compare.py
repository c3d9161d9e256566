"""The compare view: two policies, or two settings of one, on the same scene and seed; by trials; and blind."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import OpenPage
from playwright.sync_api import Locator, Page, Request, expect
from run_view import EPISODE_MS, expect_end, state

Begun = list[tuple[str, dict[str, Any]]]
"""The addresses and bodies of the requests that begin an episode which is to be seen."""

NUM_COLOURS = """canvas => {
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size;
}"""


INTERVALS_OF_3 = ("0 and 56", "6 and 79", "21 and 94", "44 and 100")
"""Wilson's 95 % intervals [%] of 0 to 3 successes in 3 trials."""


@pytest.fixture
def begun() -> Begun:
    return []


def open_compare(page: Page, tab: str, begun: Begun) -> None:
    """Open the compare view at a tab, and note the episodes that it begins."""

    def note(request: Request) -> None:
        if request.method == "POST" and request.url.endswith("/episodes"):
            body = json.loads(request.post_data or "")
            if not body.get("paused"):
                begun.append((request.url, body))

    page.on("request", note)
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("tab", name=tab).click()
    expect(page.get_by_label("Task")).to_have_value("pick_up_red_cube", timeout=EPISODE_MS)


def side(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def settings(page: Page, name: str) -> Locator:
    return page.get_by_role("group", name=f"Side {name}")


def show(page: Page, moment: str) -> None:
    """Move the playhead of both sides to the end ("max") or to the start ("min")."""
    page.get_by_label("Time of both sides").evaluate(
        f"input => {{ input.value = input.{moment}; input.dispatchEvent(new Event('input', {{bubbles: true}})); }}"
    )


def fill(page: Page, label: str, value: str) -> None:
    page.get_by_label(label, exact=True).fill(value)
    page.get_by_label(label, exact=True).blur()


def test_two_policies_run_side_by_side_in_the_same_scene(open_page: OpenPage, both: str, begun: Begun):
    page = open_page(both)
    open_compare(page, "Side by side", begun)
    fill(page, "Seed", "3")
    page.get_by_role("button", name="Run both").click()
    expect(side(page, "A").get_by_role("status")).to_have_text("success", timeout=EPISODE_MS)
    page.get_by_role("button", name="Stop both").click()
    expect(page.get_by_role("button", name="Stop both")).to_be_disabled(timeout=EPISODE_MS)
    show(page, "max")
    expect(side(page, "B").get_by_role("status")).to_have_text(re.compile("stopped|max steps"))
    assert [url for url, _ in begun] == [f"{both}/servers/0/episodes", f"{both}/servers/1/episodes"]
    one, other = (body for _, body in begun)
    assert one["seed"] == 3
    for field in ("seed", "instruction", "xml_string", "state", "success", "max_steps"):
        assert one[field] == other[field]
    expect(side(page, "A")).to_contain_text("bundled://tabletop")
    expect(side(page, "B")).to_contain_text("random://octo-tiny")
    for name in ("A", "B"):
        expect(side(page, name).get_by_alt_text(f"{name}: camera primary")).to_be_visible()
    difference = page.get_by_role("figure", name="Translation [mm]").locator("canvas")
    assert difference.evaluate(NUM_COLOURS) > 5, "the two policies' actions differ, and it is drawn"


def test_two_settings_of_one_server_are_compared(page: Page, begun: Begun):
    open_compare(page, "Side by side", begun)
    expect(page.get_by_text("vla-console URL URL")).to_be_visible()
    settings(page, "B").get_by_label("Rate [Hz]").fill("10")
    settings(page, "B").get_by_label("Rate [Hz]").blur()
    page.get_by_role("button", name="Run both").click()
    for name in ("A", "B"):
        expect(side(page, name).get_by_role("status")).to_have_text("success", timeout=EPISODE_MS)
    one, other = (body for _, body in begun)
    differing = {field for field in one.keys() | other.keys() if one.get(field) != other.get(field)}
    assert differing == {"execution_horizon", "control"}
    assert (one["control"], other["control"]) == ({"rate_hz": 5}, {"rate_hz": 10})
    show(page, "min")
    for name in ("A", "B"):
        expect(side(page, name).get_by_role("status")).to_have_text("replay")
        expect(side(page, name)).to_contain_text("step 0")


def seeds_of_successes(begun: Begun, horizon: int | None) -> set[int]:
    """The seeds with which a side succeeds, by what the server answers to the same requests sent once more.

    Without a horizon it is the side whose execution is the policy's own. How many differs between releases of JAX and
    numpy: a whole chunk is executed blindly.
    """
    bodies = [body for _, body in begun if body.get("execution_horizon") == horizon]
    assert len(bodies) == 3
    url = begun[0][0].removesuffix("/episodes")
    replies = [
        httpx.post(f"{url}/execute", json={name: body[name] for name in body if name != "pace"}, timeout=120)
        for body in bodies
    ]
    return {reply.json()["seed"] for reply in replies if reply.json()["success"]}


def test_trials_are_counted_with_intervals_and_opened_in_the_run_view(page: Page, begun: Begun):
    open_compare(page, "Trials", begun)
    fill(page, "Placements", "3")
    fill(page, "First seed", "5")
    page.get_by_role("button", name="Run trials").click()
    expect(page.get_by_text("6 of 6 episodes, done")).to_be_visible(timeout=EPISODE_MS)
    assert sorted(body["seed"] for _, body in begun) == [5, 5, 6, 6, 7, 7]
    successes = {name: seeds_of_successes(begun, horizon) for name, horizon in (("A", None), ("B", 4))}
    assert len(successes["A"]) == 3
    for name, seeds in successes.items():
        result = page.get_by_role("region", name=f"Result of side {name}")
        expect(result).to_contain_text(f"{len(seeds) / 3:.0%}".replace("%", " %"))
        expect(result).to_contain_text(f"{len(seeds)} of 3, 95 % between {INTERVALS_OF_3[len(seeds)]} %")
    both = len(successes["A"] & successes["B"])
    expect(page.get_by_role("region", name="Paired difference")).to_contain_text(f"both {both}")
    rows = page.get_by_role("table").get_by_role("row")
    expect(rows).to_have_count(4)
    seed_6 = rows.nth(2).locator("td.number").first
    steps = int(seed_6.inner_text().removesuffix(" steps"))
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Open seed 6, side A in the run view").click()
    trial = opened.value
    expect_end(trial)
    assert state(trial)["step"] == steps
    trial.close()


def test_trials_are_saved_as_csv(page: Page, begun: Begun):
    open_compare(page, "Trials", begun)
    fill(page, "Placements", "1")
    page.get_by_role("button", name="Run trials").click()
    expect(page.get_by_text("2 of 2 episodes, done")).to_be_visible(timeout=EPISODE_MS)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    with Path(download.value.path()).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["side"], row["seed"], row["status"]) for row in rows] == [("A", "0", "success"), ("B", "0", "success")]


def test_a_blind_vote_is_cast_before_the_names_are_told_and_is_kept(page: Page, begun: Begun):
    open_compare(page, "Blind A/B", begun)
    expect(settings(page, "B")).to_be_visible()
    page.get_by_role("button", name="Run blind").click()
    vote = page.get_by_role("group", name="Vote")
    stage = page.get_by_role("tabpanel")
    says = stage.get_by_role("status").first
    expect(says).to_contain_text("Both sides run", timeout=EPISODE_MS)
    expect(vote).to_have_count(0)
    expect(says).to_have_text("Watch both to the end, then vote.", timeout=EPISODE_MS)
    show(page, "max")
    expect(vote).to_be_visible(timeout=EPISODE_MS)
    for telling in ("own execution", "horizon", "bundled", "predict", "success"):
        expect(stage).not_to_contain_text(telling)
    page.get_by_label("Progress left [%]").fill("100")
    page.get_by_label("Why").fill("it was smoother")
    vote.get_by_role("button", name="Left is better").click()
    expect(stage).to_contain_text(re.compile("Left was [AB]: bundled://tabletop, (own execution|horizon 4)"))
    expect(stage).to_contain_text("Tally of 1 vote")
    page.reload()
    open_compare(page, "Blind A/B", begun)
    expect(page.get_by_text("Tally of 1 vote")).to_be_visible()
    (kept,) = page.evaluate("() => JSON.parse(localStorage['vla-console.votes'])")
    assert (kept["choice"], kept["comment"], kept["seed"]) == ("left", "it was smoother", 0)
    assert len(set(kept["shown"].values())) == 2
