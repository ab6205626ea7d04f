"""Search by a sound: what the search needs of it is kept under a name for the address; the sound itself is not."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Server, late, opened, shot, visited
from served import RUN, Visitor, names, visiting, wav
from sounds import noise

from and_retrieval import ClipIndex, Run
from and_retrieval.search.query import HeardSound, Query, sound_vector
from and_retrieval.serve import sounds


@pytest.fixture(autouse=True)
def folder(served_home: Path) -> Iterator[Path]:
    """Where sounds are kept; empty before and after a test."""
    path = served_home / "s" / sounds.FOLDER

    def clear() -> None:
        for file in path.glob("*"):
            file.unlink()

    clear()
    yield path
    clear()


@pytest.fixture(scope="module")
def index(served_home: Path) -> ClipIndex:
    return ClipIndex.open(served_home / "s")


def keep(visitor: Visitor, sound: bytes, name: str = "knock.wav") -> str:
    answer = visitor.hear("/api/sounds", sound, index="s", name=name)
    assert answer.status_code == 201, answer.text
    assert list(visitor.served.folder.glob("sound-*")) == []
    return str(answer.json()["sound"])


def pairs(units: list[str]) -> list[str]:
    """Units in order; of `relu`, two a class are alike, and which of them comes first is a matter of rounding."""
    return [f"relu {int(unit[5:]) // 2}" if unit.startswith("relu:") else unit for unit in units]


def refusal(visitor: Visitor, sound: str) -> tuple[int, str]:
    """How a search by a sound fails, the same for units, for clips and for its name."""
    answers = [
        visitor.client.get("/api/units", params={"run": RUN, "sound": sound}),
        visitor.client.get("/api/clips", params={"index": "s", "sound": sound}),
        visitor.client.get(f"/api/sounds/{sound}", params={"index": "s"}),
    ]
    ((status, error),) = {(answer.status_code, answer.json()["error"]) for answer in answers}
    return status, error


# ---------- the server ----------


def test_a_kept_sound_finds_what_its_file_finds(visitor: Visitor, index: ClipIndex) -> None:
    path = index.clips[0].file
    sound = keep(visitor, Path(path).read_bytes(), Path(path).name)
    assert visitor.get(f"/api/sounds/{sound}", index="s") == {"sound": sound, "name": Path(path).name}
    run = Run.open(index.folder.run("net"), index)
    units = visitor.get("/api/units", run=RUN, sound=sound, limit=5)
    by_file = run.search(Query(sounds=(path,)), k=5)
    assert units["query"] == Path(path).name
    assert names(units) == [f"{unit['layer']}:{unit['unit']}" for unit in by_file]
    assert [unit["score"] for unit in units["results"]] == pytest.approx([unit["score"] for unit in by_file])
    clips = visitor.get("/api/clips", index="s", sound=sound, limit=3)
    assert clips["results"][0]["row"] == 0
    assert clips["results"][0]["score"] > 0.99


def test_it_goes_with_texts_filters_pages_lists_and_exports(visitor: Visitor, index: ClipIndex) -> None:
    sound = keep(visitor, Path(index.clips[0].file).read_bytes())
    whole = names(visitor.get("/api/units", run=RUN, sound=sound, limit=100))
    assert len(whole) == 12
    pages = [visitor.get("/api/units", run=RUN, sound=sound, limit=4, offset=at) for at in (0, 4, 8)]
    assert pairs([name for page in pages for name in names(page)]) == pairs(whole)
    relu = names(visitor.get("/api/units", run=RUN, sound=sound, layer="relu", limit=100))
    assert pairs(relu) == pairs([name for name in whole if name.startswith("relu:")])
    mixed = visitor.get("/api/units", run=RUN, sound=sound, q="dog", minus="rain", limit=1)
    assert mixed["query"] == "dog + knock.wav - rain"
    exported = visitor.get("/api/export", run=RUN, sound=sound, format="json")
    assert pairs([f"{unit['layer']}:{unit['unit']}" for unit in exported]) == pairs(whole)


def test_another_server_knows_it(visitor: Visitor, served_home: Path) -> None:
    sound = keep(visitor, wav(noise(1.0)))
    with visiting(served_home) as other:
        assert other.get("/api/units", run=RUN, sound=sound) == visitor.get(
            "/api/units", run=RUN, sound=sound
        )


def test_the_vector_is_kept_exactly_and_nothing_of_the_sound(
    visitor: Visitor, index: ClipIndex, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(wav(noise(30.0)))
    sound = keep(visitor, path.read_bytes(), "  a\nname \x1b" + "n" * 250)
    (file,) = folder.iterdir()
    assert file.name == f"{sound}.json"
    assert file.stat().st_size < 20_000
    heard = sounds.kept_sound(index, sound)
    assert heard.name.startswith("a name nn")
    assert len(heard.name) == sounds.NAME_LENGTH
    expected = sound_vector(path, index.embedder, index.cut)
    assert heard.vector.tobytes() == expected.tobytes()
    assert str(Query(sounds=(HeardSound("n", expected), "/a/b.wav"))) == "n + b.wav"


def test_the_same_sound_is_kept_once_and_the_least_used_go_first(
    visitor: Visitor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sounds, "KEPT", 3)
    kept = [keep(visitor, wav(noise(0.8, seed=seed))) for seed in (1, 2, 3)]
    assert keep(visitor, wav(noise(0.8, seed=2))) == kept[1]
    for age, sound in enumerate(reversed(kept)):
        os.utime(folder / f"{sound}.json", ns=(10**18 - age * 10**9,) * 2)
    visitor.get("/api/units", run=RUN, sound=kept[0])  # used now, so the second is the oldest
    last = keep(visitor, wav(noise(0.8, seed=4)))
    assert {path.stem for path in folder.iterdir()} == {kept[0], kept[2], last}
    status, error = refusal(visitor, kept[1])
    assert status == 404
    assert "search by it again" in error


def test_a_sound_of_another_embedder_and_a_damaged_one_are_said(visitor: Visitor, folder: Path) -> None:
    sound = keep(visitor, wav(noise(1.0)))
    file = folder / f"{sound}.json"
    content = json.loads(file.read_text())
    for change, status, reason in (
        ({"embedder": "other"}, 404, "another embedder since knock.wav"),
        ({"vector": content["vector"][:-1]}, 404, "another embedder"),
        ({"vector": "x"}, 400, "cannot be read as a sound"),
        ({"format": 9}, 400, "cannot be read as a sound"),
    ):
        file.write_text(json.dumps(content | change))
        told = refusal(visitor, sound)
        assert told[0] == status
        assert reason in told[1]
        assert "again" in told[1]
    file.write_text("{")
    assert refusal(visitor, sound)[0] == 400


def test_what_is_no_name_or_no_sound_is_refused(visitor: Visitor, folder: Path) -> None:
    for wrong in ("../../manifest", "0" * 15, "g" * 16, "0" * 17):
        answer = visitor.client.get("/api/units", params={"run": RUN, "sound": wrong})
        assert answer.status_code == 422
    for content, reason in (
        (b"", "no sound was sent"),
        (b"nothing that sounds" * 50, "no sound that can be read"),
        (wav(np.zeros(16_000, np.float32)), "^the sound is silent"),
        (wav(np.zeros(605 * 1000, np.float32), 1000), "at most 600 s"),
    ):
        answer = visitor.hear("/api/sounds", content, index="s")
        assert answer.status_code == 400
        assert re.search(reason, answer.json()["error"])
    assert visitor.hear("/api/sounds", wav(noise(1.0)), index="none").status_code == 404
    assert visitor.client.post("/api/sounds", params={"index": "s"}).status_code == 401
    assert not folder.exists() or list(folder.iterdir()) == []


# ---------- the page ----------


def shown(page: Any) -> list[str]:
    page.wait_for_selector(".row b")
    return [row.get_attribute("data-unit") for row in page.locator(".row").all()]


def search_by(page: Any, sound: dict[str, Any]) -> None:
    with page.expect_response("**/api/units?*sound=*"):
        page.locator("#sound").set_input_files(sound)
    page.wait_for_selector(".row b")


def test_an_address_shows_the_same_after_a_reload_going_back_and_in_another_tab(
    page: Any, server: Server
) -> None:
    opened(page, server, "units&sort=unit")
    before = shown(page)
    search_by(page, late())
    found = shown(page)
    assert found[0] in {"relu:4", "relu:5", "head:2"}
    assert found != before
    address = page.url
    assert re.search(r"[?&]sound=[0-9a-f]{16}", address)
    assert page.get_by_text("The sound itself is deleted").is_visible()
    shot(page, "laptop-light-search-by-sound")
    page.reload()
    assert shown(page) == found
    assert page.get_by_role("button", name="Search without late.wav").is_visible()
    with page.context.expect_page() as opening:
        page.evaluate("url => { window.open(url, '_blank', 'noopener'); }", address)
    tab = opening.value
    assert shown(tab) == found
    tab.close()
    page.locator("[data-filter=layer]").select_option("relu")
    page.get_by_text("8 units", exact=True).wait_for()
    assert pairs(shown(page)) == pairs([unit for unit in found if unit.startswith("relu:")])
    page.go_back()
    page.get_by_text("12 units", exact=True).wait_for()
    assert shown(page) == found
    page.go_back()
    page.wait_for_function("first => document.querySelector('#row-0').dataset.unit === first", arg=before[0])
    assert page.locator("#by-sound button").count() == 0


def test_words_go_with_a_sound_until_it_is_taken_away(page: Any, server: Server) -> None:
    opened(page, server, "units")
    search_by(page, late())
    page.locator("#box").fill("heartbeat")
    page.locator("#box").press("Enter")
    page.wait_for_url("**q=heartbeat*")
    assert "sound=" in page.url
    page.locator("#want").select_option("clips")
    page.get_by_role("heading", name="Clips").wait_for()
    page.wait_for_selector(".clip")
    assert page.get_by_text("The sound itself is deleted").is_visible()
    page.get_by_role("button", name="Search without late.wav").click()
    page.wait_for_selector("#by-sound button", state="detached")
    assert "sound=" not in page.url
    assert "q=heartbeat" in page.url


def test_a_sound_that_is_gone_is_said_in_a_sentence(browser: Any, server: Server, folder: Path) -> None:
    with visited(browser, server, expected=" 404 ") as page:
        opened(page, server, "units")
        search_by(page, late())
        for file in folder.iterdir():
            file.unlink()
        page.reload()
        page.get_by_text("the sound of this address is gone").wait_for()
        page.get_by_role("button", name="Search without a sound that is gone").click()
        page.wait_for_selector(".row b")
