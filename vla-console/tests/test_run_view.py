"""The run view: say what the robot should do, watch it, steer it, and begin again."""

import base64
import hashlib
import io
import json
import re
import zipfile
from pathlib import Path

import httpx
import pytest
from conftest import OpenPage
from PIL import Image
from playwright.sync_api import Page, Route, expect
from programs import PolicyServer, policy_server
from run_view import EPISODE_MS, PHONE, expect_end, final_bodies, place_of_red, run, scrub, set_options, state

BLOCK = """v 0 0 0
v 0.04 0 0
v 0 0.04 0
v 0 0 0.04
f 1 3 2
f 1 2 4
f 1 4 3
f 2 3 4
"""


def test_an_instruction_is_typed_and_the_arm_does_it(page: Page):
    expect(page.get_by_text("connected")).to_be_visible()
    run(page)
    expect_end(page)
    assert final_bodies(page)["red_cube"][2] > 0.07
    now = state(page)
    # 30 frames a simulated second, and the start.
    assert now["posesReceived"] == 1 + 6 * now["step"]
    assert now["framesDrawn"] > 0
    expect(page.get_by_role("img", name="primary")).to_be_visible()
    expect(page.get_by_role("img", name="wrist")).to_be_visible()


def test_an_episode_is_scrubbed_and_begun_again_from_its_seed(page: Page, server: PolicyServer):
    run(page)
    expect_end(page)
    end = final_bodies(page)["red_cube"]
    scrub(page, 0)
    page.wait_for_function("() => window.__console.playhead === 0 && window.__console.bodies.red_cube[2] < 0.03")
    page.get_by_label("Time").press("ArrowRight")
    page.wait_for_function("() => Math.abs(window.__console.playhead - 0.2) < 1e-6")
    set_options(page)
    page.get_by_role("button", name="Again with").click()
    expect(page.get_by_test_id("state")).not_to_have_text("success", timeout=EPISODE_MS)
    expect_end(page)
    assert final_bodies(page)["red_cube"] == pytest.approx(end, abs=1e-4)


def test_a_dragged_cube_is_picked_up_from_where_it_was_put(page: Page):
    page.wait_for_function("() => window.__console.framesDrawn > 0 && window.__console.bodies.red_cube")
    before = state(page)["bodies"]["red_cube"]
    view = page.get_by_label("3-D view").locator("canvas")
    x, y = place_of_red(view)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 30, y - 10, steps=4)
    page.mouse.move(x + 60, y - 20, steps=4)
    page.mouse.up()
    moved = state(page)["bodies"]["red_cube"]
    assert sum((a - b) ** 2 for a, b in zip(moved, before, strict=True)) ** 0.5 > 0.03
    assert moved[2] == pytest.approx(before[2], abs=1e-6), "it slides over the table"
    expect(page.get_by_test_id("moved")).to_contain_text("red_cube")
    run(page)
    page.wait_for_function("() => window.__console.step > 0", timeout=EPISODE_MS)
    scrub(page, 0)
    page.wait_for_function("() => window.__console.playhead === 0")
    assert state(page)["bodies"]["red_cube"] == pytest.approx(moved, abs=1e-3)
    expect_end(page)


def test_an_episode_is_paused_stepped_told_something_else_and_stopped(page: Page):
    run(page)
    page.get_by_role("button", name="Pause").click(timeout=EPISODE_MS)
    expect(page.get_by_test_id("state")).to_have_text("paused", timeout=EPISODE_MS)
    paused_at = state(page)["step"]
    page.get_by_role("button", name="Step").click()
    page.wait_for_function("(step) => window.__console.step === step", arg=paused_at + 1)
    expect(page.get_by_test_id("state")).to_have_text("paused")
    page.get_by_label("Instruction").fill("pick up the blue cube")
    page.get_by_label("Instruction").press("Enter")
    page.get_by_role("button", name="Go on").click()
    expect_end(page)
    assert final_bodies(page)["blue_cube"][2] > 0.07
    run(page, "push the red cube to the left")
    page.get_by_role("button", name="Stop").click(timeout=EPISODE_MS)
    expect_end(page, "stopped")


def test_tasks_that_come_late_leave_what_is_written_alone(open_page: OpenPage, server: PolicyServer):
    page = open_page(server.url, path="about:blank")
    waiting: list[Route] = []
    page.route("**/tasks?*", lambda route: waiting.append(route))
    page.goto(server.url)
    page.get_by_label("Instruction").press_sequentially("wave")
    page.get_by_label("Instruction").fill("")
    while not waiting:
        page.wait_for_timeout(50)
    waiting[0].continue_()
    page.get_by_label("Tasks").get_by_role("option", name="pick up the red cube").wait_for(state="attached")
    expect(page.get_by_label("Instruction")).to_have_value("")
    page.get_by_label("Instruction").press_sequentially("wave at me")
    expect(page.get_by_label("Instruction")).to_have_value("wave at me")


def test_free_text_has_no_criterion_and_does_not_fail(page: Page):
    page.get_by_label("Instruction").fill("wave at me")
    expect(page.get_by_test_id("criterion")).to_have_text("no criterion")
    set_options(page, Max_steps="3")
    run(page, "wave at me")
    expect_end(page, "max_steps")
    assert "failed" not in page.inner_text("body")


def test_a_zip_with_meshes_is_opened_and_run(page: Page, server: PolicyServer, tmp_path: Path):
    xml = httpx.get(f"{server.url}/scenes/panda/tabletop").text
    mesh = '<asset><mesh name="block" file="meshes/block.obj"/></asset><worldbody>'
    body = '<body name="wedge" pos="0.4 0.2 0.05"><freejoint/><geom type="mesh" mesh="block" rgba="1 1 0 1"/></body>'
    xml = xml.replace("<worldbody>", mesh + body, 1).replace("<keyframe>", "<!--").replace("</keyframe>", "-->")
    path = tmp_path / "wedge.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("scene.xml", xml)
        archive.writestr("meshes/block.obj", BLOCK)
    page.get_by_label("File").set_input_files(path)
    page.wait_for_function("() => 'wedge' in window.__console.bodies", timeout=EPISODE_MS)
    set_options(page, Max_steps="2")
    run(page, "pick up the red cube")
    expect_end(page, "max_steps")


def test_a_scene_that_does_not_compile_is_refused_in_words(page: Page, problems: list[str], tmp_path: Path):
    path = tmp_path / "broken.xml"
    path.write_text("<mujoco><worldbody><geom size='0'/></worldbody></mujoco>")
    page.get_by_label("File").set_input_files(path)
    expect(page.get_by_role("alert")).to_contain_text("geom", timeout=EPISODE_MS)
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    problems.clear()  # the browser notes the 422


def test_a_lost_server_is_told_in_words_and_reattached_to(open_page: OpenPage, log: Path, problems: list[str]):
    with policy_server(log) as server:
        page = open_page(server.url)
        set_options(page, Max_steps="400")
        run(page, "wave at me")
        page.wait_for_function("() => window.__console.step > 2", timeout=EPISODE_MS)
        server.kill()
        expect(page.get_by_role("alert")).to_contain_text("does not answer", timeout=10_000)
        expect(page.get_by_test_id("connection")).to_have_text("offline")
        scrub(page, 0)
        page.wait_for_function("() => window.__console.playhead === 0")
        server.start()
        expect(page.get_by_test_id("connection")).to_have_text("connected", timeout=EPISODE_MS)
        run(page)
        expect_end(page)
        page.close()
    problems.clear()  # requests that failed while the server was away


def test_what_is_said_before_the_scene_is_there_is_done_once_it_is(page: Page):
    page.get_by_label("Instruction").fill("pick up the blue cube")
    page.get_by_label("Instruction").press("Enter")
    expect_end(page)
    assert final_bodies(page)["blue_cube"][2] > 0.07


def test_a_reload_comes_back_to_the_episode(page: Page):
    set_options(page, Seed="7", Max_steps="40")
    run(page, "wave at me")
    page.wait_for_function("() => window.__console.step > 2", timeout=EPISODE_MS)
    page.reload()
    page.wait_for_function("() => window.__console?.status === 'running' && window.__console.step > 2")
    page.get_by_role("button", name="Stop").click()
    expect_end(page, "stopped")
    page.reload()
    expect_end(page, "stopped")
    expect(page.get_by_label("Instruction")).to_have_value("wave at me")


def test_a_motion_that_the_guard_cuts_is_marked_and_listed(page: Page):
    set_options(page, Max_steps="40", **{"Rate_[Hz]": "20"})
    page.get_by_label("Guard").select_option("warn")
    run(page)
    expect(page.get_by_test_id("state")).to_have_text(re.compile("success|max_steps"), timeout=EPISODE_MS)
    mark = page.locator(".marks .violation").first
    expect(mark).to_have_attribute("title", re.compile("contact .*, limit 100 N"))
    mark.click()
    page.get_by_label("Time").press("ArrowRight")
    expect(page.get_by_role("list", name="Contacts and violations")).to_contain_text("limit 100 N")


def test_two_tabs_have_an_episode_each(open_page: OpenPage, server: PolicyServer):
    pages = [open_page(server.url), open_page(server.url)]
    run(pages[0], "pick up the red cube")
    run(pages[1], "pick up the blue cube")
    for page in pages:
        expect_end(page)
    bodies = [final_bodies(page) for page in pages]
    assert [body["red_cube"][2] > 0.07 for body in bodies] == [True, False]
    assert [body["blue_cube"][2] > 0.07 for body in bodies] == [False, True]


def test_a_link_shows_a_colleague_the_same_episode(page: Page, open_page: OpenPage, server: PolicyServer):
    set_options(page, Seed="7")
    run(page)
    expect_end(page)
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Copy link").click()
    link = page.get_by_label("Link").input_value()
    assert link.startswith(server.url)
    colleague = open_page(server.url, path=link.removeprefix(server.url))
    expect_end(colleague)
    mine, theirs = state(page), state(colleague)
    assert (mine["step"], mine["sceneId"]) == (theirs["step"], theirs["sceneId"])
    assert final_bodies(colleague)["red_cube"] == pytest.approx(final_bodies(page)["red_cube"], abs=1e-4)


def test_a_link_carries_a_small_scene_to_a_server_that_lacks_it(
    page: Page, open_page: OpenPage, server: PolicyServer, log: Path, tmp_path: Path
):
    xml = httpx.get(f"{server.url}/scenes/panda/tabletop").text.replace(
        'name="red_cube" pos="0.45 -0.15', 'name="red_cube" pos="0.5 -0.1'
    )
    path = tmp_path / "mine.xml"
    path.write_text(xml)
    page.get_by_label("File").set_input_files(path)
    expect(page.get_by_label("Scene", exact=True)).to_have_value("mine.xml", timeout=EPISODE_MS)
    set_options(page, Max_steps="3")
    run(page, "wave at me")
    expect_end(page, "max_steps")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Copy link").click()
    link = page.get_by_label("Link").input_value()
    with policy_server(log) as other:
        colleague = open_page(other.url, path=link.removeprefix(server.url))
        expect_end(colleague, "max_steps")
        assert state(colleague)["sceneId"] == state(page)["sceneId"]
        colleague.close()


def test_a_link_to_a_scene_that_is_not_here_says_how_to_open_it(
    page: Page, server: PolicyServer, problems: list[str], tmp_path: Path
):
    scene = httpx.get(f"{server.url}/scenes/panda/tabletop").text.replace("<mujoco", "<!-- mine --><mujoco", 1)
    run_json = {"scene": hashlib.sha256(b"elsewhere").hexdigest(), "file": "mine.xml", "instruction": "wave at me"}
    fragment = base64.urlsafe_b64encode(json.dumps(run_json).encode()).decode().rstrip("=")
    page.goto(f"/#run={fragment}")
    expect(page.get_by_role("alert")).to_contain_text("does not have the link's scene, mine.xml", timeout=EPISODE_MS)
    problems.clear()  # the browser notes the 404
    path = tmp_path / "mine.xml"
    path.write_text(scene)
    page.get_by_label("File").set_input_files(path)
    expect(page.get_by_role("alert")).to_have_count(0, timeout=EPISODE_MS)


def test_an_episode_that_a_program_began_is_attached_to(open_page: OpenPage, server: PolicyServer):
    xml = httpx.get(f"{server.url}/scenes/panda/tabletop").text
    body = {"instruction": "wave", "xml_string": xml, "max_steps": 4, "poses": True, "frames": "png"}
    episode = httpx.post(f"{server.url}/episodes", json=body, timeout=60).json()["episode_id"]
    page = open_page(server.url, path=f"/#episode={episode}")
    expect_end(page, "max_steps")
    assert state(page)["step"] == 4


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(open_page: OpenPage, server: PolicyServer, theme: str):
    page = open_page(server.url, viewport=PHONE, has_touch=True, color_scheme=theme)
    run(page)
    expect_end(page)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
    for name in ("Stop", "Save"):
        box = page.get_by_role("button", name=name, exact=True).bounding_box()
        assert box is not None
        assert box["height"] >= 44
        assert box["x"] + box["width"] <= PHONE["width"]


def test_every_control_has_a_name(page: Page):
    unnamed = page.evaluate("""() => [...document.querySelectorAll("button, input, select, textarea, canvas")]
        .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.title || e.labels?.length
                         || e.closest("[aria-label]:not(main)")))
        .map((e) => e.outerHTML.slice(0, 120))""")
    assert unnamed == []


def test_the_keyboard_runs_holds_and_stops(page: Page):
    set_options(page, Max_steps="400")
    run(page, "wave at me")
    page.wait_for_function("() => window.__console.step > 1", timeout=EPISODE_MS)
    page.get_by_label("Instruction").blur()
    page.keyboard.press("Escape")
    expect_end(page, "stopped")


def test_a_number_that_is_being_typed_stays_when_the_page_changes(page: Page):
    set_options(page, Seed="5")
    page.get_by_label("Max steps").fill("3")
    page.get_by_role("button", name="New seed").dispatch_event("click")  # the field keeps the focus
    expect(page.get_by_label("Seed")).not_to_have_value("5")
    expect(page.get_by_label("Max steps")).to_have_value("3")


def test_what_is_saved_is_the_episode(page: Page):
    set_options(page, Max_steps="3", Seed="5")
    run(page, "wave at me")
    expect_end(page, "max_steps")
    page.get_by_role("button", name="Save").click()
    saved = {}
    for name in ("Episode as JSON", "Animation (WebP)", "MuJoCo state log"):
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        saved[name] = Path(download.value.path()).read_bytes()
    assert b'"seed":5' in saved["Episode as JSON"].replace(b" ", b"")
    with Image.open(io.BytesIO(saved["Animation (WebP)"])) as animation:
        assert animation.n_frames == 4
    assert saved["MuJoCo state log"].count(b"<key ") >= 4


def test_an_episode_is_saved_as_a_lerobot_dataset(page: Page):
    set_options(page, Max_steps="3", Seed="5")
    run(page, "wave at me")
    expect_end(page, "max_steps")
    page.get_by_role("button", name="Save").click()
    with page.expect_download(timeout=EPISODE_MS) as download:
        page.get_by_role("button", name="LeRobot episode").click()
    with zipfile.ZipFile(download.value.path()) as dataset:
        assert any(name.endswith("meta/info.json") for name in dataset.namelist())
