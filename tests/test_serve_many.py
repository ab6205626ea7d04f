"""Thirty thousand units in a browser: only what is seen is drawn, and what the tab holds is bounded."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Server, serving, visited

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from and_retrieval import ClipIndex, Run
from and_retrieval.explanation.stored import load_explained
from and_retrieval.progress import silent
from bench import serve, tab

pytestmark = pytest.mark.slow

UNITS, PAGE, ROW = 30_000, 100, 60
RUN = f"s/{serve.MADE_UP}"
HEAP = 20  # MB; the page itself takes 2 to 5
NODES, LISTENERS = 4_000, 1_000  # with one unit open there are 1,900 and 230


@pytest.fixture(scope="module")
def many(
    served_home: Path, tmp_path_factory: pytest.TempPathFactory, heeded_signals: None
) -> Iterator[Server]:
    home = shutil.copytree(served_home, tmp_path_factory.mktemp("many") / "home")
    index = ClipIndex.open(home / "s")
    explained = load_explained(Run.open(index.folder.run("net"), index))
    serve.made_up(explained, UNITS, lambda *_: silent)
    with serving(home, RUN) as server:
        yield server


def test_all_rows_are_scrolled_through(browser: Any, many: Server) -> None:
    with visited(browser, many) as page:
        asked: list[int] = []
        page.on("request", lambda request: asked.extend(map(int, re.findall(r"offset=(\d+)", request.url))))
        page.goto(f"{many.url}/?run={RUN}&view=units&sort=unit")
        page.locator(".row b").first.wait_for()  # a selector would keep what it found
        for place in range(0, UNITS, PAGE):
            page.evaluate(f"() => {{ document.getElementById('rows').scrollTop = {place * ROW} }}")
            page.locator(f"#row-{place} b").wait_for()
            assert page.locator(".row").count() < 60
        last = page.locator(f"#row-{UNITS - PAGE}")
        assert last.get_attribute("data-unit") == "layer9:2900"
        assert set(asked) == set(range(0, UNITS, PAGE))
        asked.clear()
        page.evaluate("() => { document.getElementById('rows').scrollTop = 0 }")
        page.locator("#row-0 b").wait_for()
        assert asked == [0]  # it was given up, and is asked for again
        held = tab.held(page.context.new_cdp_session(page))
        assert held["heap_mb"] < HEAP
        assert held["nodes"] < NODES


def test_what_the_tab_holds_is_bounded(browser: Any, many: Server) -> None:
    with visited(browser, many) as page:
        steps = tab.measured(page, many.url, RUN, UNITS)
        page.goto(f"{many.url}/?run={RUN}&view=map")
        page.get_by_text("Each square has the colour").wait_for()  # of so many units, how many lie where
    for name, held in steps.items():
        assert held["heap_mb"] < HEAP, name
        assert held["nodes"] < NODES, name
        assert held["listeners"] < LISTENERS, name
    before, after = steps["back to the table"], steps["back again"]
    assert after["nodes"] <= 1.2 * before["nodes"]  # another round leaves nothing behind
    assert after["listeners"] <= 1.2 * before["listeners"]
    assert after["heap_mb"] <= before["heap_mb"] + 5
