"""The map of very many units: counts in cells, by the server; drawn, listed and lassoed in a browser."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from browsing import Server, opened, shot
from hypothesis import given, settings
from hypothesis import strategies as st
from served import RUN, Visitor

from and_retrieval.explanation.unit_map import inside
from and_retrieval.serve import map_columns
from and_retrieval.serve.density import SIDE, Density

POSITION = st.tuples(*[st.floats(-1, 1, width=16) | st.just(np.nan)] * 2)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(POSITION, st.integers(-1, 3)), max_size=40))
def test_cells_are_what_counting_one_by_one_gives(units: list[tuple[tuple[float, float], int]]) -> None:
    positions = np.array([at for at, _ in units], np.float32).reshape(-1, 2)
    codes = np.array([code for _, code in units], np.int64)
    cells: dict[tuple[int, int], list[int]] = {}
    for (x, y), code in zip(positions.tolist(), codes.tolist(), strict=True):
        if not np.isnan(x + y):
            cell = tuple(min(int((np.float32(value) + 1) / 2 * SIDE), SIDE - 1) for value in (y, x))
            cells.setdefault((cell[0], cell[1]), []).append(code)
    density = Density.of_positions(positions)
    assert density.places.tolist() == [row * SIDE + column for row, column in sorted(cells)]
    assert density.units.tolist() == [len(cells[cell]) for cell in sorted(cells)]
    most, counts = density.most_frequent(codes)
    for place, cell in enumerate(sorted(cells)):
        held = cells[cell]
        best = min(set(held), key=lambda code: (-held.count(code), code))
        assert (most[place], counts[place]) == (best, held.count(best))
    assert len(density.rows) == sum(map(len, cells.values()))


def test_a_cell_holds_what_a_loop_around_it_holds() -> None:
    rng = np.random.default_rng(0)
    positions = np.tanh(0.4 * rng.normal(size=(30_000, 2))).astype(np.float32)
    density = Density.of_positions(positions)
    assert density.units.sum() == 30_000
    half = 1 / SIDE
    for place in rng.integers(0, len(density.units), 30):
        x, y = density.middles[place].round(4)
        corners = [
            (round(x + a * half, 3), round(y + b * half, 3)) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ]
        assert inside(positions, corners).sum() == density.units[place]


def test_above_so_many_units_the_server_counts(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = visitor.get("/api/map", run=RUN)
    assert one_by_one["cells"] is None
    assert (one_by_one["total"], one_by_one["placed"], len(one_by_one["x"])) == (12, 12, 12)
    monkeypatch.setattr(map_columns, "SINGLE", 11)
    told = visitor.get("/api/map", run=RUN)
    assert told["cells"] == {"side": SIDE, "size": 0.016}
    columns = ["x", "y", "units", "layer", "kind", "label", "labelled"]
    assert len({len(told[name]) for name in columns}) == 1
    assert sum(told["units"]) == told["placed"] == told["total"] == 12
    assert max(map(abs, told["x"])) < 1


# ---------- the page ----------


@pytest.fixture
def dense(page: Any, server: Server) -> dict[str, Any]:
    """A map of 40,000 units, which the page is given in place of the run's own."""
    rng = np.random.default_rng(0)
    positions = np.concatenate([0.1 * rng.normal(size=(30_000, 2)) - 0.5, rng.uniform(-1, 1, (10_000, 2))])
    density = Density.of_positions(np.clip(positions, -1, 1).astype(np.float32))
    right = (np.arange(40_000) >= 30_000).astype(np.int64)
    told = json.loads(page.request.get(f"{server.url}/api/map?run={RUN}").text())
    x, y = density.middles.round(4).T.tolist()
    told |= {"cells": {"side": SIDE, "size": 2 / SIDE}, "total": 40_001, "placed": 40_000, "x": x, "y": y}
    told |= {"units": density.units.tolist(), "labelled": density.units.tolist()}
    told |= {name: density.most_frequent(right)[0].tolist() for name in ("layer", "kind", "label")}
    page.route("**/api/map*", lambda route: route.fulfill(json=told))
    opened(page, server, "map")
    return told


def strength(page: Any, x: float, y: float) -> int:
    """Opacity of the canvas at a place of the map, 0 to 255."""
    return int(
        page.evaluate(
            """([x, y]) => {
                const canvas = document.querySelector("canvas");
                const at = (value) => Math.floor(((value + 1.05) / 2.1) * canvas.width);
                return canvas.getContext("2d").getImageData(at(x), at(y), 1, 1).data[3];
            }""",
            [x, y],
        )
    )


def test_the_more_units_a_cell_has_the_stronger_its_colour(page: Any, dense: dict[str, Any]) -> None:
    order = np.argsort(dense["units"])
    few, many = int(order[0]), int(order[-1])
    weak, strong = (strength(page, dense["x"][cell], dense["y"][cell]) for cell in (few, many))
    assert 0 < weak < strong
    assert strong == 255
    assert page.get_by_text("1 unit that never responded is left out").is_visible()
    assert page.get_by_text(f"up to {dense['units'][many]}").is_visible()
    shot(page, "laptop-light-map-density")


def test_a_cell_is_said_and_listed_by_mouse_and_by_keyboard(page: Any, dense: dict[str, Any]) -> None:
    cell = int(np.argmax(dense["units"]))
    box = page.locator("canvas").bounding_box()
    place = [(dense[axis][cell] + 1.05) / 2.1 * box["width"] for axis in ("x", "y")]
    page.mouse.move(box["x"] + place[0], box["y"] + place[1])
    page.locator(".tip").get_by_text(f"{dense['units'][cell]} units", exact=True).wait_for()
    page.locator("canvas").focus()
    page.keyboard.press("ArrowRight")
    first = page.locator(".tip").text_content()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator(".tip").text_content() != "" != first
    page.keyboard.press("Enter")
    page.wait_for_url("**view=units**lasso=**")
    page.go_back()
    page.wait_for_selector("canvas")
    page.locator("canvas").click(position={"x": place[0], "y": place[1]})
    page.wait_for_url("**view=units**lasso=**")
    corners = page.evaluate("() => new URLSearchParams(location.search).get('lasso')").split(";")
    xs = sorted({float(corner.split(",")[0]) for corner in corners})
    assert xs == pytest.approx([dense["x"][cell] - 0.008, dense["x"][cell] + 0.008])


def test_units_one_by_one_are_reached_by_arrow_keys(page: Any, server: Server) -> None:
    opened(page, server, "map")
    page.locator("canvas").focus()
    for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    name = page.locator(".tip .muted").text_content()
    page.keyboard.press("Enter")
    page.wait_for_selector(".unit-head")
    assert page.locator(".unit-head .mono").text_content() == name
