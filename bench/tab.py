"""What a tab of the page holds over very many units, and what it asks of the processor.

Chromium opens a made-up run, see `bench.serve`, as a person does: the table, then every page of it by scrolling, units
one after the other, searches, the map, and all of that again. After each step the garbage is collected and Chromium's
own counters are read: bytes of JavaScript's heap, nodes of the document (those of removed parts too, while anything
holds them), listeners, and seconds that the tab kept the processor busy. The seconds of `wait` are by the clock: from
the end of loading to the first rows, or for the whole step. `server` is the processor's time of the server and of what
drives the browser.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

from and_retrieval.benchmark.tables import markdown
from and_retrieval.clips.index import ClipIndex
from and_retrieval.errors import InputError
from and_retrieval.explanation.stored import load_explained
from and_retrieval.recording.recording import Recording
from and_retrieval.serve.server import PageServer
from and_retrieval.store import Home
from bench import Announce, Figures
from bench.many_clips import among_many_clips
from bench.serve import MADE_UP, made_up
from bench.serve import add_arguments as add_arguments

PAGE = 100  # rows that the page asks for at a time
OPENED = 60  # units, and searches, of one step
WORDS = ("dog", "rain", "siren", "a crying baby", "clock", "music")
CURVE = {
    "seconds": [place / 100 for place in range(500)],
    "values": [place % 50 for place in range(500)],
    **dict.fromkeys(("mean", "std", "low", "high"), 0.0),
}
"""A unit's activation over the time of a clip; the network has no layers of a made-up run's names."""

FIRST = """() => new Promise((done) => {
    const look = () => {
        const { loadEventEnd } = performance.getEntriesByType("navigation")[0];
        if (loadEventEnd && document.querySelector(".row b")) done((performance.now() - loadEventEnd) / 1000);
        else requestAnimationFrame(look);
    };
    look();
})"""
SCROLL = """async ([total, step]) => {
    const rows = document.getElementById("rows");
    let most = 0;
    for (let row = 0; row < total; row += step) {
        rows.scrollTop = row * 60;
        while (!document.querySelector(`#row-${row} b`)) await new Promise(requestAnimationFrame);
        most = Math.max(most, document.querySelectorAll(".row").length);
    }
    return most;
}"""
GO = """async ([addresses, ready]) => {
    for (const address of addresses) {
        history.pushState(null, "", address);
        window.dispatchEvent(new PopStateEvent("popstate"));
        const unit = new URLSearchParams(location.search).get("unit");
        const drawn = () => document.querySelector(ready) && !document.querySelector("main .waiting")
            && (!unit || document.querySelector(".unit-head .mono")?.textContent === unit);
        do await new Promise(requestAnimationFrame); while (!drawn());
    }
}"""


def run(run: str, units: int, clips: int, home: str | None, announce: Announce) -> Figures:
    """Figures of every step, over the made-up run."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise InputError("there is no Chromium on this machine; install it")
    place = Home.find(home)
    name, _, of = run.partition("/")
    index = ClipIndex.open(place.require_index(name).path)
    made_up(load_explained(Recording.open(place.require_run(name, of), index)), units, announce)
    many = among_many_clips(place, f"{name}/{MADE_UP}", clips)
    server = PageServer.listen(place, many, port=0).start()
    try:
        with sync_playwright() as driver:
            window = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = window.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(300_000)
            page.goto(server.address)
            page.wait_for_selector(".layer-row")
            figures = measured(page, server.url, many, units)
            window.close()
    finally:
        server.stop()
    settings = {"units": units, "clips": clips, "opened": OPENED}
    return {"settings": settings, "data": index.digest(), **figures}


def measured(page: Any, url: str, run: str, units: int) -> dict[str, dict[str, float]]:
    """Step -> figures, in the page of a browser that was opened with the token.

    Args:
        page: Of Playwright.
        url: Of the server.
        run: A made-up run of so many units.
        units: Number of units.
    """
    page.route("**/api/activations?*", lambda route: route.fulfill(json=CURVE))
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    table = f"/?run={run}&view=units&sort=unit"
    names = [f"layer{place % 10}:{7 * place % (units // 10)}" for place in range(OPENED)]
    one_by_one = [f"{table}&unit={name}" for name in names]
    searches = [f"{table}&q={WORDS[place % len(WORDS)]} {place}" for place in range(OPENED)]
    of_clips = [f"/?run={run}&view=units&for=clips&q={word}" for word in WORDS]
    views = [f"/?run={run}&view={view}" for view in ("map", "hear", "prune", "overview", "map")]

    def first() -> float:
        page.goto(url + table)
        return float(page.evaluate(FIRST))

    def go(addresses: list[str], ready: str) -> None:
        page.evaluate(GO, [addresses, ready])

    def scroll() -> None:
        assert page.evaluate(SCROLL, [units, PAGE]) < PAGE

    steps: dict[str, Callable[[], float | None]] = {
        "first rows": first,
        "all rows scrolled through": scroll,
        f"{OPENED} units opened": lambda: go(one_by_one, ".row b"),
        f"{OPENED} searches": lambda: go(searches, ".row b"),
        f"{len(of_clips)} searches of clips": lambda: go(of_clips, ".clip"),
        "map and the other views": lambda: go(views, "main h1"),
        "back to the table": lambda: go([table], ".row b"),
        f"{OPENED} units again": lambda: go(one_by_one, ".row b"),
        "the views again": lambda: go(views, "main h1"),
        "back again": lambda: go([table], ".row b"),
    }
    return {name: _step(session, step) for name, step in steps.items()}


def held(session: Any) -> dict[str, float]:
    """What the tab of a session of Chromium's tools holds, garbage apart: heap in MB, nodes, listeners."""
    session.send("Performance.enable")
    for _ in range(2):  # what one collection finishes off lets the next find more
        session.send("HeapProfiler.collectGarbage")
    metrics = _metrics(session)
    heap = round(metrics["JSHeapUsedSize"] / 1e6, 1)
    return {"heap_mb": heap, "nodes": metrics["Nodes"], "listeners": metrics["JSEventListeners"]}


def _step(session: Any, step: Callable[[], float | None]) -> dict[str, float]:
    busy, began, server = _metrics(session)["TaskDuration"], time.perf_counter(), time.process_time()
    wait = step()
    clock = time.perf_counter() - began
    server = time.process_time() - server
    after = _metrics(session)
    return {
        **held(session),
        "tab_s": round(after["TaskDuration"] - busy, 2),
        "server_s": round(server, 2),
        "wait_s": round(clock if wait is None else wait, 2),
    }


def _metrics(session: Any) -> dict[str, float]:
    return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}


def table(figures: Figures) -> str:
    """One row a step."""
    return markdown(
        [{"step": name, **of} for name, of in figures.items() if isinstance(of, dict) and "nodes" in of]
    )
