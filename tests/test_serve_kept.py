"""What people keep on the page: stars, labels and notes, lists of units, and exports of what is shown."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from browsing import Server, serving
from httpx import Response
from hypothesis import given, settings
from hypothesis import strategies as st
from served import RUN, Visitor, names, visiting

from and_retrieval import ClipIndex, Run
from and_retrieval.explanation.lines import unit_lines
from and_retrieval.serve import lists, notes
from and_retrieval.serve.guard import RefusedError
from and_retrieval.store import Folder


@pytest.fixture(scope="module")
def built(served_home: Path) -> Path:
    """The home that `in_built` lets commands find."""
    return served_home


@pytest.fixture
def kept(visitor: Visitor, built: Path) -> Iterator[Visitor]:
    """A visitor who finds no list, and leaves none."""
    yield visitor
    (built / "s/runs/net" / lists.FILE).unlink(missing_ok=True)


def listed(visitor: Visitor, name: str) -> list[str]:
    return names(visitor.get("/api/units", run=RUN, list=name, limit=100, sort="unit"))


def make(visitor: Visitor, name: str) -> Response:
    return visitor.client.post("/api/lists", params={"run": RUN}, json={"name": name}, headers=visitor.token)


def change(visitor: Visitor, name: str, order: dict[str, Any], **shown: Any) -> Response:
    parameters = {"run": RUN, **shown}
    return visitor.client.patch(f"/api/lists/{name}", params=parameters, json=order, headers=visitor.token)


# ---------- lists ----------


def test_a_list_is_made_filled_renamed_emptied_and_deleted(kept: Visitor, built: Path) -> None:
    assert make(kept, "  alarms\nof smoke ").json() == {"name": "alarms of smoke", "units": 0, "earlier": 0}
    added = change(kept, "alarms of smoke", {"add": ["relu:4", "head:2", "relu:4"]}).json()
    assert added == {"name": "alarms of smoke", "units": 2, "earlier": 0}
    assert listed(kept, "alarms of smoke") == ["relu:4", "head:2"]
    assert kept.get("/api/units/head:2", run=RUN)["lists"] == ["alarms of smoke"]
    assert change(kept, "alarms of smoke", {"name": "a/b ü"}).json()["name"] == "a/b ü"
    with visiting(built) as another_day:
        assert listed(another_day, "a/b ü") == ["relu:4", "head:2"]
    assert change(kept, "a/b ü", {"remove": ["relu:4", "relu:7"]}).json()["units"] == 1
    assert listed(kept, "a/b ü") == ["head:2"]
    make(kept, "second")
    assert [one["name"] for one in kept.get("/api/lists", run=RUN)["lists"]] == ["a/b ü", "second"]
    deleted = kept.client.delete("/api/lists/a/b ü", params={"run": RUN}, headers=kept.token)
    assert deleted.json() == {"deleted": "a/b ü"}
    assert [one["name"] for one in kept.get("/api/lists", run=RUN)["lists"]] == ["second"]


def test_everything_that_is_shown_is_added(kept: Visitor) -> None:
    make(kept, "x")
    shown: list[dict[str, Any]] = [
        {"layer": "head"}, {"lasso": "-2,-2;0.1,-2;0.1,2;-2,2"}, {"words": "alarm"},
        {"q": "heartbeat", "layer": "relu"},
    ]  # fmt: skip
    expected: set[str] = set()
    for filters in shown:
        expected |= set(names(kept.get("/api/units", run=RUN, limit=100, **filters)))
        assert change(kept, "x", {"add_shown": True}, **filters).json()["units"] == len(expected)
        assert set(listed(kept, "x")) == expected
    within = kept.get("/api/units", run=RUN, list="x", q="smoke alarm", limit=100)
    assert set(names(within)) == expected


def test_what_cannot_be_kept_is_said(kept: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    make(kept, "x")
    make(kept, "y")
    assert "already" in make(kept, "x").json()["error"]
    assert "already" in change(kept, "x", {"name": "y"}).json()["error"]
    assert change(kept, "x", {"name": "x"}).status_code == 200
    assert "a name" in make(kept, " \t ").json()["error"]
    assert "at most 80" in make(kept, "n" * 81).json()["error"]
    assert change(kept, "x", {"add": ["relu:99"]}).status_code == 404
    assert change(kept, "x", {"more": 1}).status_code == 422
    for answer in (
        change(kept, "no", {"add": ["relu:1"]}),
        kept.client.delete("/api/lists/no", params={"run": RUN}, headers=kept.token),
        kept.client.get("/api/units", params={"run": RUN, "list": "no"}),
    ):
        assert (answer.status_code, "no list" in answer.json()["error"]) == (404, True)
    monkeypatch.setattr(lists, "MOST_UNITS", 3)
    assert "at most" not in change(kept, "x", {"add": ["relu:1", "relu:2", "relu:3"]}).text
    assert "may have 3 units" in change(kept, "x", {"add": ["relu:4"]}).json()["error"]
    assert listed(kept, "x") == ["relu:1", "relu:2", "relu:3"]
    monkeypatch.setattr(lists, "MOST_LISTS", 2)
    assert "delete one first" in make(kept, "z").json()["error"]


def test_units_of_an_earlier_recording_are_counted(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "recording")
    lists.create_list(folder, "a")
    lists.change_list(folder, "a", None, ["x:1", "x:2"], [], "old")
    made = lists.change_list(folder, "a", None, ["x:2", "x:3"], [], "new")
    assert made.plain("new") == {"name": "a", "units": 3, "earlier": 1}
    assert lists.read_lists(folder)["a"].units == made.units


UNITS = st.lists(
    st.sampled_from([f"{layer}:{unit}" for layer in ("a", "b:c") for unit in range(12)]), max_size=6
)
STEPS = st.tuples(
    st.sampled_from(["make", "add", "remove", "rename", "delete"]), st.sampled_from("xyz"), UNITS
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=15))
def test_lists_are_what_a_dictionary_of_sets_would_be(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, list[str]]]
) -> None:
    folder = Folder(tmp_path_factory.mktemp("lists"), "recording")
    known: dict[str, set[str]] = {}
    for what, name, units in steps:
        if what == "make" and name not in known:
            lists.create_list(folder, name)
            known[name] = set()
        elif what == "rename" and name in known and "w" not in known:
            lists.change_list(folder, name, "w", [], [], "r")
            known["w"] = known.pop(name)
        elif what == "delete" and name in known:
            lists.delete_list(folder, name)
            del known[name]
        elif what in ("add", "remove") and name in known:
            lists.change_list(folder, name, None, *((units, []) if what == "add" else ([], units)), "r")
            known[name] = known[name] | set(units) if what == "add" else known[name] - set(units)
        elif what in ("add", "delete"):
            with pytest.raises(RefusedError, match="no list"):
                lists.known_list(folder, name)
    assert {name: set(kept.units) for name, kept in lists.read_lists(folder).items()} == known


def test_lists_changed_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "recording")
    lists.create_list(folder, "x")

    def write(number: int) -> None:
        lists.change_list(folder, "x", None, [f"relu:{number}"], [], "r")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert set(lists.read_lists(folder)["x"].units) == {f"relu:{number}" for number in range(40)}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": 9, "lists": {}}', '{"format": 1, "lists": {"a": 3}}', '{"format": 1}']
)
def test_damaged_lists_are_said_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / lists.FILE
    path.write_text(text)
    with pytest.raises(lists.InputError, match=r"(begin new lists$|be read as lists;)"):
        lists.create_list(Folder(tmp_path, "recording"), "x")
    assert path.read_text() == text


# ---------- export ----------


def exported(visitor: Visitor, form: str, **shown: Any) -> Response:
    return visitor.client.get(
        "/api/export", params={"run": RUN, "format": form, **shown}, headers=visitor.token
    )


def test_what_is_shown_is_exported_with_what_was_said(kept: Visitor, built: Path) -> None:
    make(kept, "mine")
    change(kept, "mine", {"add": ["relu:3", "head:0"]})
    said = {"star": True, "label": '=cough; "dry"', "note": "two\nlines"}
    kept.client.patch("/api/notes/relu:3", params={"run": RUN}, json=said, headers=kept.token)
    index = ClipIndex.open(built / "s")
    run = Run.open(index.folder.run("net"), index)
    known = {f"{line['layer']}:{line['unit']}": line for line in unit_lines(run.explanations())}
    answer = exported(kept, "json", list="mine")
    assert answer.headers["content-disposition"] == 'attachment; filename="units.json"'
    units = answer.json()
    assert [f"{unit['layer']}:{unit['unit']}" for unit in units] == ["relu:3", "head:0"]
    for unit in units:
        line = json.loads(json.dumps(known[f"{unit['layer']}:{unit['unit']}"]))
        assert {name: unit[name] for name in line} == line
        assert unit["lists"] == ["mine"]
    more = {name: units[0][name] for name in ("star", "own_label", "note")}
    assert more == {"star": True, "own_label": said["label"], "note": said["note"]}
    rows = list(csv.DictReader(io.StringIO(exported(kept, "csv").text, newline="")))
    assert [f"{row['layer']}:{row['unit']}" for row in rows] == list(known)
    assert (rows[3]["own_label"], rows[3]["note"], rows[3]["lists"]) == (said["label"], said["note"], "mine")
    found = exported(kept, "csv", q="smoke alarm").text.splitlines()[1]
    assert found.startswith(tuple(name.replace(":", ",") for name in ("relu:4", "relu:5", "head:2")))
    nothing = {"star": False, "label": "", "note": ""}
    kept.client.patch("/api/notes/relu:3", params={"run": RUN}, json=nothing, headers=kept.token)


def test_nothing_is_not_exported(kept: Visitor) -> None:
    answer = exported(kept, "csv", words="zxqv")
    assert (answer.status_code, "nothing to export" in answer.json()["error"]) == (400, True)
    assert exported(kept, "xlsx").status_code == 422


# ---------- notes ----------


def test_a_star_a_label_and_a_note_are_kept(built: Path) -> None:
    with visiting(built) as visitor:
        path = "/api/notes/relu:3"
        said = {"star": True, "label": "  thumps\nin a chest ", "note": "sure"}
        put = visitor.client.patch(path, params={"run": RUN}, json=said, headers=visitor.token)
        kept = {"star": True, "label": "thumps in a chest", "note": "sure", "earlier": False}
        assert put.json() == {"unit": "relu:3", "note": kept}
    with visiting(built) as visitor:  # another day
        assert visitor.get("/api/notes", run=RUN)["units"]["relu:3"] == kept
        assert visitor.get("/api/units/relu:3", run=RUN)["note"] == kept
        starred = visitor.get("/api/units", run=RUN, starred=True)
        assert kept in [unit["note"] for unit in starred["results"]]
        nothing = {"star": False, "label": "", "note": ""}
        visitor.client.patch(path, params={"run": RUN}, json=nothing, headers=visitor.token)
        assert "relu:3" not in visitor.get("/api/notes", run=RUN)["units"]
        for wrong, status in ((said | {"note": "x" * 5000}, 422), (said | {"more": 1}, 422)):
            put = visitor.client.patch(path, params={"run": RUN}, json=wrong, headers=visitor.token)
            assert put.status_code == status
        other = visitor.client.patch(
            "/api/notes/relu:99", params={"run": RUN}, json=said, headers=visitor.token
        )
        assert other.status_code == 404


def test_what_a_change_leaves_out_stays(built: Path, kept: Visitor) -> None:
    """Two tabs show the same unit: what one says does not undo what the other said."""
    path = "/api/notes/relu:6"

    def say(**change: Any) -> dict[str, Any]:
        answer = kept.client.patch(path, params={"run": RUN}, json=change, headers=kept.token)
        note: dict[str, Any] = answer.json()["note"]
        return note

    say(star=True)
    say(label="a hiss")
    assert say(note="check") == {"star": True, "label": "a hiss", "note": "check", "earlier": False}
    assert say(star=False)["label"] == "a hiss"
    assert say() == {"star": False, "label": "a hiss", "note": "check", "earlier": False}
    say(label=" ", note="")
    assert "relu:6" not in notes.read_notes(Folder(built / "s/runs/net", "recording"))


def test_two_servers_on_one_home_lose_nothing(
    served_home: Path, tmp_path: Path, heeded_signals: None
) -> None:
    home = shutil.copytree(served_home, tmp_path / "home")
    units = [f"relu:{unit}" for unit in range(8)] + [f"head:{unit}" for unit in range(4)]
    with serving(home) as first, serving(home) as second, ThreadPoolExecutor(8) as pool:

        def ask(server: Server, method: str, path: str, change: dict[str, Any]) -> int:
            token = {"Authorization": f"Bearer {server.token}"}
            url = f"{server.url}/api/{path}"
            return httpx.request(
                method, url, params={"run": RUN}, json=change, headers=token, timeout=60
            ).status_code

        assert ask(first, "POST", "lists", {"name": "both"}) == 201
        orders: list[tuple[Server, str, str, dict[str, Any]]] = []
        for place, unit in enumerate(units):
            one, other = (first, second) if place % 2 else (second, first)
            orders += [
                (one, "PATCH", f"notes/{unit}", {"star": True}),
                (other, "PATCH", f"notes/{unit}", {"label": f"label of {unit}"}),
                (one, "PATCH", "lists/both", {"add": [unit]}),
                (other, "POST", "lists", {"name": f"list {place}"}),
            ]
        asked = [pool.submit(ask, *order) for order in orders]
        assert {answer.result() for answer in asked} <= {200, 201}
    folder = Folder(home / "s/runs/net", "recording")
    said = {unit: (note.star, note.label) for unit, note in notes.read_notes(folder).items()}
    assert said == {unit: (True, f"label of {unit}") for unit in units}
    stored = lists.read_lists(folder)
    assert set(stored) == {"both", *(f"list {place}" for place in range(len(units)))}
    assert set(stored["both"].units) == set(units)


def test_notes_written_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "recording")

    def write(number: int) -> None:
        notes.change_note(folder, f"relu:{number}", "r", label=str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert {unit: note.label for unit, note in notes.read_notes(folder).items()} == {
        f"relu:{number}": str(number) for number in range(40)
    }


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": 9, "units": {}}', '{"format": 1, "units": {"a:0": {"x": 1}}}']
)
def test_damaged_notes_are_said_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / notes.FILE
    path.write_text(text)
    with pytest.raises(notes.InputError, match=r"(begin new notes$|be read as notes;)"):
        notes.change_note(Folder(tmp_path, "recording"), "relu:0", "r", star=True)
    assert path.read_text() == text
