"""The page in a browser: every view, by mouse and by keyboard, in both themes, on a laptop and on a phone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from browsing import Server, late, opened, shot
from served import OTHER, RUN

FORM = "units&layer=head"
"""The view on which the form for a list is opened."""
VIEWS = ("overview", "units", "map", "hear", "prune", "compare")


def test_the_token_leaves_the_address_and_is_kept(page: Any, server: Server) -> None:
    assert "token" not in page.url
    other = page.context.new_page()
    other.goto(f"{server.url}/?run={RUN}&view=prune")
    other.get_by_role("button", name="Prune").wait_for()
    assert other.get_by_role("button", name="Prune").is_enabled()


def test_without_the_token_one_can_look(browser: Any, server: Server) -> None:
    page = browser.new_context().new_page()
    page.goto(f"{server.url}/?run={RUN}&view=units&unit=relu:2")
    page.get_by_role("heading", level=2).first.wait_for()
    assert page.get_by_role("button", name="Star this unit").is_disabled()
    page.get_by_text("look, but not compute").wait_for()


def test_from_the_overview_to_a_unit_by_clicks(page: Any) -> None:
    page.get_by_role("link", name="head", exact=True).click()
    page.wait_for_selector(".row b")
    assert page.locator(".row").count() == 4
    page.locator(".row").nth(1).click()
    page.wait_for_selector(".unit-page")
    assert "unit=head%3A" in page.url
    assert page.locator(".unit-page .clip").count() > 3
    page.go_back()
    page.get_by_text("Choose a unit").wait_for()


def test_a_search_is_in_the_address_and_says_when_nothing_listens(page: Any, server: Server) -> None:
    page.keyboard.press("/")
    page.keyboard.type("smoke alarm, -white noise")
    page.keyboard.press("Enter")
    page.wait_for_selector(".row b")
    assert "q=smoke+alarm" in page.url
    assert "minus=white+noise" in page.url
    assert page.locator(".row").first.get_attribute("data-unit") in ("relu:4", "relu:5", "head:2")
    address = page.url
    page.goto(address)
    page.wait_for_selector(".row b")
    assert page.locator("#box").input_value() == "smoke alarm, -white noise"
    page.locator("#box").fill("zxqv")
    page.keyboard.press("Enter")
    page.get_by_text("No unit here listens for").wait_for()
    page.locator("#want").select_option("clips")
    page.get_by_text("Nothing here sounds like").wait_for()
    assert page.locator(".clip").count() > 10


def test_filters_and_words_narrow_the_list(page: Any, server: Server) -> None:
    opened(page, server, "units")
    assert page.locator("#count").text_content() == "12 units"
    page.locator("[data-filter=layer]").select_option("relu")
    page.get_by_text("8 units").wait_for()
    page.locator("[data-filter=words]").fill("zxqv")
    page.get_by_text("No unit passes these filters").wait_for()
    assert "words=zxqv" in page.url


def test_a_clip_plays_from_its_peak_and_seeks(page: Any, server: Server) -> None:
    answers: list[int] = []
    page.on("response", lambda answer: answers.append(answer.status) if answer.url.endswith(".mp3") else None)
    opened(page, server, "units&unit=relu:4")
    page.wait_for_selector(".over-time polyline")
    page.locator(".clip .play").first.click()
    page.wait_for_selector(".clip.playing")
    before = page.evaluate("() => document.getElementById('audio').currentTime")
    page.evaluate("() => { document.getElementById('audio').currentTime = 0.2 }")
    assert page.evaluate("() => document.getElementById('audio').seekable.length") == 1
    page.get_by_label("Half speed").check()
    assert page.evaluate("() => document.getElementById('audio').playbackRate") == 0.5
    page.get_by_label("Loop").check()
    assert page.evaluate("() => document.getElementById('audio').loop") is True
    page.get_by_label("Level loudness").check()
    page.locator("body").click(position={"x": 5, "y": 400})
    page.keyboard.press(" ")
    page.wait_for_selector(".clip.playing", state="detached")
    page.keyboard.press(" ")
    page.wait_for_selector(".clip.playing")
    assert before >= 0
    assert 206 in answers
    assert page.locator("audio").count() == 1


def test_a_clip_shows_its_other_captions_too(page: Any, server: Server) -> None:
    opened(page, server, "units")
    shown = """async (captions) => {
      const { clipTile } = await import("/page/clips.js");
      const clip = { row: 0, path: "a/b.wav", seconds: 1, caption: "a dog barks", captions };
      const tile = clipTile({ run: null, index: "s", unit: null, clip });
      return [...tile.querySelectorAll(".caption")].map((each) => each.textContent);
    }"""
    assert page.evaluate(shown, []) == ["a dog barks"]
    assert page.evaluate(shown, ["The sound of a dog barks"]) == ["a dog barks"]
    assert page.evaluate(shown, ["Woof.", "A dog barks"]) == ["a dog barks", "Woof."]


def test_a_unit_is_starred_and_labelled(page: Any, server: Server) -> None:
    opened(page, server, "units&unit=relu:6")
    star = page.get_by_role("button", name="Star this unit")
    star.click()
    page.wait_for_selector(".star[aria-pressed=true]")
    page.get_by_text("Your label, note and lists").click()
    page.get_by_label("Your label", exact=True).fill("hiss")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved").wait_for()
    opened(page, server, "units&starred=true")
    assert page.locator(".row b").all_text_contents() == ["hiss"]
    stored = json.loads((server.home / "s/runs/net/notes.json").read_text())
    assert stored["units"]["relu:6"]["label"] == "hiss"


def test_a_sound_is_heard(page: Any, server: Server) -> None:
    opened(page, server, "hear")
    page.locator("main input[type=file]").set_input_files(late())
    page.get_by_role("heading", name="Units that fire most").wait_for()
    assert page.locator(".strips li").count() >= 2
    picture = page.locator(".picture.wide")
    line = picture.locator("polyline").last
    first = line.get_attribute("points")
    assert len(first.split()) > 100
    page.locator(".strips li a").nth(1).focus()
    assert line.get_attribute("points") != first
    name = (
        page.locator(".strips li a")
        .nth(1)
        .get_attribute("href")
        .split("unit=")[1]
        .split("&")[0]
        .replace("%3A", ":")
    )
    assert f"({name})" in page.get_by_text("Drawn on it").text_content()
    box = picture.bounding_box()
    picture.click(position={"x": box["width"] * 0.9, "y": 20})
    page.get_by_text(re.compile(r"What fires at 3\.[56]")).wait_for()
    assert "smoke" in page.locator(".here").text_content().lower()
    page.wait_for_function("() => document.getElementById('audio').currentTime > 3")
    assert page.locator("main tbody th").first.text_content() == "smoke alarm"


def test_a_dropped_sound_is_searched_by(page: Any, server: Server) -> None:
    opened(page, server, "map")
    sound = late()
    carried = page.evaluate_handle(
        """([name, bytes]) => {
            const carried = new DataTransfer();
            carried.items.add(new File([new Uint8Array(bytes)], name, { type: "audio/wav" }));
            return carried;
        }""",
        [sound["name"], list(sound["buffer"])],
    )
    page.dispatch_event("main", "drop", {"dataTransfer": carried})
    page.get_by_role("button", name="Search without late.wav").wait_for()
    page.wait_for_selector(".row b")
    assert page.locator("#row-0").get_attribute("data-unit") in {"relu:4", "relu:5", "head:2"}


def test_a_concept_is_pruned_with_progress_and_taken_along(page: Any, server: Server) -> None:
    opened(page, server, "prune")
    page.get_by_label("Concepts").fill("heartbeat")
    page.get_by_role("button", name="Prune").click()
    page.get_by_role("heading", name=re.compile("heartbeat: 2 units at the knee")).wait_for()
    assert page.locator("figure.lines polyline").count() >= 2
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download the weights").click()
    assert Path(waiting.value.path()).stat().st_size > 1000
    slider = page.get_by_role("slider", name="Factor")
    slider.focus()
    page.keyboard.press("Home")
    page.get_by_role("region", name="Answer before and after").wait_for()


def test_a_unit_is_turned_down(page: Any, server: Server) -> None:
    opened(page, server, "units&unit=head:1")
    page.get_by_role("slider", name="Factor").focus()
    page.keyboard.press("Home")
    table = page.get_by_role("region", name="Answer before and after")
    table.wait_for()
    names = table.locator("tbody th").all_text_contents()
    after = table.locator("tbody td:nth-child(3)").all_text_contents()
    cells = dict(zip(names, after, strict=True))
    assert float(cells["heartbeat"]) < 0.5


def test_two_runs_are_compared(page: Any, server: Server) -> None:
    opened(page, server, "compare")
    page.get_by_role("heading", name="Findings").wait_for()
    assert page.get_by_role("region", name=f"Layers of {OTHER}").is_visible()


def test_a_loop_on_the_map_lists_its_units(page: Any, server: Server) -> None:
    opened(page, server, "map")
    page.wait_for_selector("canvas")
    box = page.locator("canvas").bounding_box()
    corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.05)]
    page.mouse.move(box["x"] + corners[0][0] * box["width"], box["y"] + corners[0][1] * box["height"])
    page.mouse.down()
    for x, y in corners[1:]:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
    page.mouse.up()
    page.wait_for_selector(".row b")
    assert "lasso=" in page.url
    assert page.locator("#count").text_content() == "12 units"


def test_by_keyboard_alone(page: Any, server: Server) -> None:
    opened(page, server, "units")
    page.wait_for_selector(".row b")
    page.locator("#rows").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(".unit-page")
    third = page.locator(".row").nth(2).get_attribute("data-unit")
    page.wait_for_function(f"() => document.querySelector('.unit-head .mono')?.textContent === '{third}'")
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "unit"
    page.keyboard.press("k")
    second = page.locator(".row").nth(1).get_attribute("data-unit")
    page.wait_for_function(f"() => document.querySelector('.unit-head .mono')?.textContent === '{second}'")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.matches('#unit *')")
    page.keyboard.press("?")
    page.get_by_role("heading", name="Keys").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.get_by_text("Choose a unit").wait_for()


def test_what_goes_wrong_is_said_in_words(browser: Any, server: Server) -> None:
    page = browser.new_context().new_page()
    for run, view, reason in (
        (RUN, "units&unit=relu:99", "there is no unit 99"),
        (RUN, "units&unit=nowhere:1", "unknown layer"),
        (RUN, "units&like=relu:99", "there is no unit 99"),
    ):
        page.goto(f"{server.url}/?run={run}&view={view}#token={server.token}")
        alert = page.get_by_role("alert")
        alert.wait_for()
        assert reason in alert.text_content()
    page.goto(f"{server.url}/?run=no/run&view=overview")  # another run is opened instead
    page.wait_for_selector(".layer-row")
    assert page.locator("#run").input_value() == RUN
    page.context.close()


SHIFTS = """
    window.shifted = 0;
    new PerformanceObserver((list) => {
        for (const shift of list.getEntries()) if (!shift.hadRecentInput) window.shifted += shift.value;
    }).observe({ type: "layout-shift", buffered: true });
"""
"""Adds up how far what is already seen moves while a view loads."""
JUMP = 0.1  # the largest shift that counts as good, by https://web.dev/articles/cls


@pytest.fixture(scope="module")
def pruned(server: Server) -> str:
    """The name of a job that pruned a concept."""
    headers = {"Authorization": f"Bearer {server.token}"}
    order = {"run": RUN, "concepts": ["heartbeat"], "export": True}
    job = httpx.post(f"{server.url}/api/prune", json=order, headers=headers, timeout=120).json()["job"]
    with httpx.stream("GET", f"{server.url}/api/jobs/{job}/events", headers=headers, timeout=120) as events:
        *_, last = (line for line in events.iter_lines() if line.startswith("data:"))
    assert json.loads(last[5:])["state"] == "done"
    return str(job)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("device", "width", "height"), [("laptop", 1280, 800), ("phone", 390, 844)])
def test_every_view_is_accessible(
    browser: Any, server: Server, pruned: str, scheme: str, device: str, width: int, height: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe").Axe()
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": height}, bypass_csp=True
    )
    page = context.new_page()
    page.add_init_script(SHIFTS)
    page.goto(f"{server.url}/#token={server.token}")
    page.wait_for_selector(".layer-row")
    for view in (
        *VIEWS,
        "units&unit=relu:4",
        "units&q=dog&for=clips",
        "units&words=zxqv",
        f"prune&job={pruned}",
        FORM,
    ):
        opened(page, server, view)
        if "job=" in view:
            page.wait_for_selector(".changes .clip")
        if view == FORM:
            page.get_by_role("button", name="Add all to a list").click()
            page.get_by_role("dialog").wait_for()
        shifted = page.evaluate("() => window.shifted")
        assert shifted < JUMP, f"{view} jumps by {shifted:.2f} on a {device}"
        if "unit=" in view:
            page.wait_for_selector(".unit-page")
            page.evaluate("() => document.querySelectorAll('details').forEach((box) => { box.open = true })")
        if view == "hear":
            page.locator("main input[type=file]").set_input_files(late())
            page.wait_for_selector(".strips")
        name = re.sub(r"\W+", "-", view.replace(pruned, "done"))
        shot(page, f"{device}-{scheme}-{name}")
        flaws = axe.run(page).response["violations"]
        assert [(flaw["id"], [node["html"][:120] for node in flaw["nodes"]][:3]) for flaw in flaws] == [], (
            view
        )
        wide = page.evaluate(
            "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0, f"{view} is wider than a {device}"
    page.wait_for_timeout(600)  # for half a second after a click, a shift counts as wanted
    page.evaluate("() => { document.querySelector('.top').style.height = '500px' }")  # a jump is seen
    page.wait_for_function(f"() => window.shifted > {JUMP}")
    context.close()


def test_the_api_page_is_drawn_from_the_schema(page: Any, server: Server) -> None:
    page.goto(f"{server.url}/docs")
    page.get_by_role("heading", name="GET /api/units", exact=True).wait_for()
    assert page.get_by_text("Needs the token").count() > 8
