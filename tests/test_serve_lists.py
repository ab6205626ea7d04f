"""Lists of units in a browser: made from the table, the map and a unit's page, by mouse and by keyboard; exported."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Server, opened, shot


@pytest.fixture(autouse=True)
def stored(server: Server) -> Iterator[Path]:
    """The file of the lists, which is gone after a test."""
    path = server.home / "s/runs/net/lists.json"
    path.unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)


def units_of(stored: Path, name: str) -> set[str]:
    return {unit for units in json.loads(stored.read_text())["lists"][name].values() for unit in units}


def fill(page: Any, name: str) -> None:
    """Answer the form that asks for a list with a new one."""
    form = page.get_by_role("dialog")
    form.get_by_label("Name of the new list").fill(name)
    form.get_by_role("button", name="Add").click()
    form.wait_for(state="detached")


def test_chosen_units_go_to_a_list_and_out_of_it(page: Any, server: Server, stored: Path) -> None:
    opened(page, server, "units&sort=unit")
    page.wait_for_selector(".row b")
    page.locator(".row-tick").nth(1).click()
    page.locator(".row-tick").nth(3).click(modifiers=["Shift"])
    assert "3 chosen" in page.locator("#count").text_content()
    assert page.locator(".row[aria-selected=true]").count() == 3
    shot(page, "laptop-light-units-chosen")
    page.get_by_role("button", name="Add chosen to a list").click()
    shot(page, "laptop-light-add-to-list")
    fill(page, "my units")
    page.get_by_text("“my units” has 3 units now").wait_for()
    assert units_of(stored, "my units") == {"relu:1", "relu:2", "relu:3"}
    page.locator("#kept").select_option("list:my units")
    page.get_by_text("3 units", exact=True).wait_for()
    assert "list=my+units" in page.url
    page.locator(".row-tick").first.click()
    page.get_by_role("button", name="Take chosen out").click()
    page.get_by_text("2 units · 1 unit taken out").wait_for()
    assert units_of(stored, "my units") == {"relu:2", "relu:3"}


def test_a_list_is_renamed_exported_and_deleted(page: Any, server: Server, stored: Path) -> None:
    opened(page, server, "units&layer=head")
    page.get_by_role("button", name="Add all to a list").click()
    fill(page, "classes")
    page.locator("#kept").select_option("list:classes")
    page.get_by_role("button", name="Rename list").click()
    form = page.get_by_role("dialog")
    form.get_by_label("Name").fill("")
    form.get_by_role("button", name="Rename").click()
    assert form.is_visible()  # the browser asks for a name
    form.get_by_label("Name").fill("the classes")
    form.get_by_role("button", name="Rename").click()
    page.get_by_text("renamed to “the classes”").wait_for()
    assert "list=the+classes" in page.url
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export CSV").click()
    assert waiting.value.suggested_filename == "the-classes.csv"
    text = Path(waiting.value.path()).read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [(row["layer"], row["unit"]) for row in rows] == [("head", str(unit)) for unit in range(4)]
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export JSON").click()
    units = json.loads(Path(waiting.value.path()).read_text(encoding="utf-8"))
    assert [unit["lists"] for unit in units] == [["the classes"]] * 4
    page.get_by_role("button", name="Delete list").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("“the classes” is deleted").wait_for()
    assert json.loads(stored.read_text())["lists"] == {}
    assert "list=" not in page.url


def test_a_name_that_is_taken_is_said_in_the_form(page: Any, server: Server, stored: Path) -> None:
    opened(page, server, "units&layer=head")
    page.get_by_role("button", name="Add all to a list").click()
    fill(page, "x")
    page.get_by_role("button", name="Add all to a list").click()
    form = page.get_by_role("dialog")
    assert form.locator("select").input_value() == "x"
    form.locator("select").select_option(label="a new list")
    form.get_by_label("Name of the new list").fill("x")
    form.get_by_role("button", name="Add").click()
    form.get_by_role("alert").get_by_text("already").wait_for()
    page.keyboard.press("Escape")
    form.wait_for(state="detached")


def test_what_lies_in_a_loop_on_the_map_goes_to_a_list(page: Any, server: Server, stored: Path) -> None:
    opened(page, server, "map")
    page.wait_for_selector("canvas")
    box = page.locator("canvas").bounding_box()
    corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.05)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for x, y in places[1:]:
        page.mouse.move(x, y, steps=4)
    page.mouse.up()
    page.get_by_role("button", name="Add all to a list").click()
    fill(page, "everything")
    page.get_by_text("“everything” has 12 units now").wait_for()
    assert len(units_of(stored, "everything")) == 12


def test_by_keyboard_a_unit_is_put_on_a_list(page: Any, server: Server, stored: Path) -> None:
    opened(page, server, "units&sort=unit")
    page.wait_for_selector(".row b")
    page.locator("#rows").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    assert "1 chosen" in page.locator("#count").text_content()
    page.locator("#list-bar button").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.type("by hand")
    page.keyboard.press("Enter")
    page.get_by_text("“by hand” has 1 unit now").wait_for()
    assert units_of(stored, "by hand") == {"relu:1"}


def test_on_its_own_page_a_unit_is_put_on_lists(page: Any, server: Server, stored: Path) -> None:
    opened(page, server, "units&unit=relu:5")
    page.get_by_text("Your label, note and lists").click()
    page.get_by_role("group", name="Lists").get_by_role("button", name="Add to a list").click()
    fill(page, "mine")
    box = page.get_by_role("checkbox", name="mine")
    box.wait_for()
    assert box.is_checked()
    assert units_of(stored, "mine") == {"relu:5"}
    with page.expect_response("**/api/lists/mine*"):
        box.uncheck()
    assert units_of(stored, "mine") == set()
    opened(page, server, "units&list=mine")
    page.get_by_text("No unit of this list").wait_for()
