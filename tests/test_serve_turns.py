"""Answers that come late: the page has moved on, and what it shows now stays."""

from __future__ import annotations

import re
from typing import Any

import pytest
from browsing import Server, late, opened, visited
from served import RUN

ELSEWHERE = "t/net"
"""A run on another index, which the page is made to believe in; its answers are those of RUN."""


def held(page: Any, address: str) -> list[Any]:
    """Requests to an address that matches, which wait until the test lets them go on."""
    waiting: list[Any] = []
    page.route(re.compile(address), lambda route: waiting.append(route))  # Playwright takes no built-in
    return waiting


def wait_for(page: Any, waiting: list[Any], count: int = 1) -> None:
    for _ in range(600):
        if len(waiting) >= count:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{len(waiting)} requests, not {count}")


def answered(page: Any, route: Any) -> None:
    """Let a request go on, and wait until the page has done with its answer what it does."""
    with page.expect_response(lambda answer: answer.request == route.request) as answer:
        route.continue_()
    answer.value.finished()
    page.wait_for_timeout(200)


def left_early(page: Any, server: Server, view: str, address: str, link: str, drawn: str) -> None:
    """Open a view and, while what it asks of an address is held back, another; then let the answer come."""
    waiting = held(page, address)
    page.goto(f"{server.url}/?run={RUN}&view={view}")
    wait_for(page, waiting)
    page.get_by_role("navigation").get_by_role("link", name=link).click()
    page.wait_for_selector(drawn)
    answered(page, waiting[0])


@pytest.mark.parametrize(
    ("asking", "address", "leftover"),
    [
        ("units&for=clips&q=siren", "/api/clips", ".clip"),
        ("overview", "/api/overview", ".layer-row"),
        ("compare", "/api/compare", "main h2"),
    ],
)
def test_a_late_view_leaves_the_one_that_is_open(
    page: Any, server: Server, asking: str, address: str, leftover: str
) -> None:
    left_early(page, server, asking, address, "Map", "canvas")
    assert page.locator("canvas").count() == 1
    assert page.locator(leftover).count() == 0


def test_a_late_map_leaves_the_view_that_is_open(page: Any, server: Server) -> None:
    left_early(page, server, "map", "/api/map", "Overview", ".layer-row")
    assert page.locator("canvas").count() == 0
    assert page.locator(".layer-row").count() == 2


def test_a_late_failure_is_not_shown_in_another_view(page: Any, server: Server) -> None:
    left_early(page, server, "units&for=clips&like=relu:99", "/api/clips", "Map", "canvas")
    assert page.locator("canvas").count() == 1
    assert page.locator("main [role=alert]").count() == 0


def test_of_two_searches_the_later_one_is_shown(page: Any, server: Server) -> None:
    opened(page, server, "units&for=clips&q=heartbeat")
    first = page.locator(".clip").first.get_attribute("data-clip")
    waiting = held(page, "/api/clips.*smoke")
    page.locator("#box").fill("smoke alarm")
    page.keyboard.press("Enter")
    wait_for(page, waiting)
    page.locator("#box").fill("heartbeat")
    page.keyboard.press("Enter")
    page.wait_for_selector(".clip")
    answered(page, waiting[0])
    assert page.locator(".clip").first.get_attribute("data-clip") == first
    page.unroute_all()
    page.locator("#box").fill("smoke alarm")
    page.keyboard.press("Enter")
    page.wait_for_function(f"() => document.querySelector('.clip')?.dataset.clip !== '{first}'")


def test_of_two_sounds_the_later_one_is_heard(page: Any, server: Server) -> None:
    opened(page, server, "hear")
    waiting = held(page, "/api/hear")
    for number, name in enumerate(("slow.wav", "quick.wav")):
        page.locator(".drop input").set_input_files(late() | {"name": name})
        wait_for(page, waiting, number + 1)
    for route in reversed(waiting):
        answered(page, route)
        assert page.get_by_role("heading", name="quick.wav").is_visible()
    assert page.get_by_role("heading", name="slow.wav").count() == 0


def test_a_sound_is_searched_by_in_the_index_that_keeps_it(page: Any, server: Server) -> None:
    def two_indexes(route: Any) -> None:
        known = route.fetch().json()
        [run] = [run for index in known["indexes"] for run in index["runs"] if run["run"] == RUN]
        known["indexes"].append({"name": "t", "runs": [run | {"run": ELSEWHERE}]})
        route.fulfill(json=known)

    def answered_of_run(route: Any) -> None:
        route.continue_(url=route.request.url.replace("run=t%2Fnet", "run=s%2Fnet"))

    page.route("**/api/runs?*", two_indexes)
    page.route(re.compile(r"/api/.*run=t%2Fnet"), answered_of_run)
    opened(page, server, "units&layer=head")
    waiting = held(page, "/api/sounds")
    page.locator("#sound").set_input_files(late())
    wait_for(page, waiting)
    page.locator("#run").select_option(ELSEWHERE)
    page.wait_for_function("() => location.search.includes('run=t%2Fnet')")
    answered(page, waiting[0])
    page.get_by_role("button", name="Search without late.wav").wait_for()
    page.wait_for_selector(".row b")
    assert page.locator("#run").input_value() == RUN
    assert page.locator("#row-0").get_attribute("data-unit") in {"relu:4", "relu:5", "head:2"}


def test_a_job_that_begins_late_is_not_in_the_address_of_another_view(page: Any, server: Server) -> None:
    opened(page, server, "prune&concept=heartbeat")
    waiting = held(page, "/api/prune$|/api/prune[?]")
    page.get_by_role("button", name="Prune").click()
    wait_for(page, waiting)
    page.get_by_role("navigation").get_by_role("link", name="Overview").click()
    page.wait_for_selector(".layer-row")
    answered(page, waiting[0])
    assert "job=" not in page.url
    page.get_by_role("navigation").get_by_role("link", name="Prune").click()
    page.get_by_text("at the knee").wait_for()


@pytest.mark.parametrize(
    ("status", "named"), [(503, "Search without a sound"), (404, "Search without a sound that is gone")]
)
def test_the_name_of_a_sound_is_asked_for_again_after_a_failure(
    browser: Any, server: Server, status: int, named: str
) -> None:
    with visited(browser, server, f" {status} ") as page:
        opened(page, server, "units")
        page.locator("#sound").set_input_files(late())
        page.get_by_role("button", name="Search without late.wav").wait_for()
        page.route(
            re.compile("/api/sounds/"), lambda route: route.fulfill(status=status, json={"error": "not now"})
        )
        page.reload()
        page.get_by_role("button", name=named, exact=True).wait_for()
        page.unroute_all()
        page.get_by_role("navigation").get_by_role("link", name="Map").click()
        page.get_by_role("button", name="Search without late.wav").wait_for()
