"""The server takes nothing from elsewhere, nothing too large, and leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.routing import APIRoute
from hypothesis import given, settings
from hypothesis import strategies as st
from served import PORT, RUN, Visitor, late_tone, wav
from sounds import noise
from targets.two_per_class import UNITS_OF

from and_retrieval import ClipIndex, Run
from and_retrieval.serve import guard, hearing, keeping, served, working


@pytest.fixture(scope="module")
def built(served_home: Path) -> Path:
    """The home that `in_built` lets commands find."""
    return served_home


@pytest.fixture(scope="module")
def run(built: Path) -> Run:
    index = ClipIndex.open(built / "s")
    return Run.open(index.folder.run("net"), index)


# ---------- who may ask ----------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        "127.0.0.1:1",
        "127.0.0.1.evil.example",
        "",
        f"localhost:{PORT}@evil",
    ],
)
def test_another_host_is_refused(visitor: Visitor, host: str) -> None:
    for path in ("/", "/api/runs", "/clip/s/0.mp3", "/page/main.js"):
        assert visitor.client.get(path, headers={"host": host}).status_code == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", f"https://127.0.0.1:{PORT}", "http://127.0.0.1:1"]
)
def test_another_origin_is_refused(visitor: Visitor, origin: str) -> None:
    assert visitor.client.get("/api/runs", headers={"origin": origin}).status_code == 403
    order = {"run": RUN, "concepts": ["dog"]}
    assert (
        visitor.client.post("/api/prune", json=order, headers=visitor.token | {"origin": origin}).status_code
        == 403
    )


def test_its_own_page_may_ask(visitor: Visitor) -> None:
    for host in (f"127.0.0.1:{PORT}", f"localhost:{PORT}"):
        answer = visitor.client.get("/api/runs", headers={"host": host, "origin": f"http://{host}"})
        assert answer.status_code == 200


def test_whatever_computes_or_changes_needs_the_token(visitor: Visitor) -> None:
    every = [*working.routes.routes, *keeping.routes.routes]
    routes = [route for route in every if isinstance(route, APIRoute)]
    assert len(routes) > 15
    for route in routes:
        path = route.path.replace("{unit:path}", "relu:0").replace("{job}", "x").replace("{name:path}", "x")
        for method in route.methods:
            for given_token in (None, b"Bearer wrong", "Bearer \xe9".encode("latin-1"), b"Basic x"):
                headers = {b"authorization": given_token} if given_token else {}
                answer = visitor.client.request(method, path, headers=headers)
                assert answer.status_code == 401, (method, path)
                assert "printed" in answer.json()["error"]


def test_only_reading_routes_need_none(visitor: Visitor) -> None:
    changing = {"POST", "PUT", "DELETE", "PATCH"}
    guarded = [*working.routes.routes, *keeping.routes.routes]
    open_routes = [route for route in visitor.client.app.routes if isinstance(route, APIRoute)]  # type: ignore[attr-defined]
    for route in open_routes:
        if route.path not in {one.path for one in guarded}:  # type: ignore[attr-defined]
            assert not route.methods & changing, route.path


def test_every_answer_has_the_security_headers(visitor: Visitor) -> None:
    for path in ("/", "/docs", "/page/main.js", "/api/runs", "/nothing", "/clip/s/0.png", "/api/units"):
        headers = visitor.client.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_the_pages_load_nothing_from_elsewhere(visitor: Visitor) -> None:
    from and_retrieval.serve.app import PAGES

    for path in PAGES.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path
        assert "https://" not in text, path
        assert "innerHTML" not in text, path
    assert visitor.client.get("/docs").status_code == 200


# ---------- sounds that are sent ----------


def left_over(visitor: Visitor) -> list[Path]:
    return list(visitor.served.folder.glob("sound-*"))


def test_a_sound_is_heard_where_it_sounds(visitor: Visitor) -> None:
    told = visitor.hear("/api/hear", wav(late_tone()), run=RUN).json()
    first = told["fires"][0]
    numbers = UNITS_OF["smoke alarm"]
    assert first["layer"] == "relu"
    assert first["unit"] in numbers
    assert first["alike"] == 1  # its twin
    curve = np.array(first["curve"])
    times = np.array(told["seconds"])
    assert curve[times > 3.1].min() > 0.8
    assert curve[times < 2.9].max() < 0
    relu = [unit for unit in told["fires"] if unit["layer"] == "relu" and unit["unit"] in numbers]
    assert all(unit["peak"] > 3 for unit in relu)
    late = told["here"][-1]
    assert late[0]["label"] == first["labels"][0]["concept"]
    assert (late[0]["layer"], late[0]["unit"]) in {("head", 2), *(("relu", number) for number in numbers)}
    assert (
        len({unit["label"] for unit in late}) == len(late) == 4
    )  # its twin and the class unit are not named too
    assert told["answer"][0]["class"] == "smoke alarm"
    assert told["duration"] == 4.0
    assert left_over(visitor) == []


@given(
    st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), st.integers(0, 7)), min_size=1, max_size=40)
)
def test_of_each_label_the_unit_that_fires_most_is_named(units: list[tuple[float, int]]) -> None:
    strength = np.array([strength for strength, _ in units], np.float32)
    group = np.array([label for _, label in units])
    best: dict[int, int] = {}
    for row, label in enumerate(group.tolist()):
        if label not in best or strength[row] > strength[best[label]]:
            best[label] = row
    expected = [best[label] for label in sorted(best, key=lambda label: (-strength[best[label]], label))]
    assert hearing._first_of_groups(strength, group, 8).tolist() == expected[: hearing.HERE]


@given(st.integers(0, 2**31), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_every_unit_that_fires_is_shown_or_goes_like_a_stronger_one(seed: int, kinds: int) -> None:
    rng = np.random.default_rng(seed)
    curves = rng.normal(size=(60, kinds))[:, rng.integers(0, kinds, 80)]
    curves = (curves * rng.uniform(0.5, 2, 80) + rng.normal(0, 0.05, curves.shape)).astype(np.float32)
    shown = hearing._distinct(curves)
    highest, order = curves.max(axis=0), list(shown)
    assert order[0] == highest.argmax()
    assert (np.diff(highest[order]) <= 0).all()
    together = np.corrcoef(curves.T)
    assert all(together[a, b] <= hearing.SAME + 1e-4 for a in order for b in order if a != b)
    if len(shown) < hearing.LISTED:  # all are accounted for
        assert len(shown) + sum(shown.values()) == (highest > 0).sum()


def test_a_long_sound_is_heard_window_by_window(visitor: Visitor) -> None:
    told = visitor.hear("/api/hear", wav(late_tone(25.0, 21.0)), run=RUN).json()
    relu = next(unit for unit in told["fires"] if unit["layer"] == "relu")
    assert relu["unit"] in UNITS_OF["smoke alarm"]
    assert 21 <= relu["peak"] <= 25


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (b"", "no sound was sent"),
        (b"not a sound at all" * 50, "cannot be read|no sound that can be read"),
        (wav(noise(0.5)[:3000])[:40], "read"),
        (wav(np.zeros(605 * 1000, np.float32), 1000), "at most 600 s"),
    ],
    ids=["empty", "text", "header only", "ten minutes and more"],
)
def test_what_cannot_be_heard_is_said_in_a_line(visitor: Visitor, sound: bytes, reason: str) -> None:
    answer = visitor.hear("/api/hear", sound, run=RUN)
    assert answer.status_code == 400
    assert re.search(reason, answer.json()["error"])
    assert left_over(visitor) == []


def test_a_large_upload_is_refused_before_it_is_read(visitor: Visitor) -> None:
    headers = visitor.token | {"content-type": "audio/wav", "content-length": str(1 << 30)}
    answer = visitor.client.post("/api/hear", params={"run": RUN}, content=b"x", headers=headers)
    assert answer.status_code == 413
    assert "128 MiB" in answer.json()["error"]


def test_an_upload_of_unstated_length_is_cut_off(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "UPLOAD_BYTES", 100_000)
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b"x" * 10_000

    headers = visitor.token | {"content-type": "audio/wav"}
    answer = visitor.client.post("/api/hear", params={"run": RUN}, content=parts(), headers=headers)
    assert answer.status_code == 413
    assert left_over(visitor) == []


def test_bodies_that_are_no_sound_are_short(visitor: Visitor) -> None:
    order = {"run": RUN, "concepts": ["x" * 300_000]}
    assert visitor.post("/api/prune", order).status_code == 413
    answer = visitor.client.post("/api/hear", params={"run": RUN}, content=b"x", headers=visitor.token)
    assert answer.status_code == 415


def test_only_so_many_sounds_at_a_time(visitor: Visitor) -> None:
    with visitor.served.upload(), visitor.served.upload():
        answer = visitor.hear("/api/hear", wav(noise(0.5)), run=RUN)
        assert answer.status_code == 429
    assert served.UPLOADS == 2
    assert visitor.hear("/api/hear", wav(noise(0.5)), run=RUN).status_code == 200
